"""`subtokens explain` and `subtokens token`: look at one account, without changing anything."""

import json
import time
from typing import Annotated

import typer

from ...config.ids import checked_account_id
from .options import AsJson, OneAccount


def explain(
    account_id: OneAccount,
    as_json: AsJson = False,
) -> None:
    """Tell in words how an account stands and what comes next.

    And why then, and who is at it. Exit code 1 if it is not enrolled.

    Example: subtokens explain T11200001
    """
    from ...tasks.runtime import runtime
    from .explain import account_facts
    from .terminal import say

    process = runtime()
    fleet = process.fleet()
    checked = checked_account_id(account_id, fleet.partner.partner_id)
    facts = process.call(account_facts(fleet.store, checked))
    if as_json:
        typer.echo(json.dumps(facts.as_dict()))
    else:
        say("\n".join(facts.sentences()))
    if facts.due_score is None:
        raise typer.Exit(1)


def token(
    account_id: OneAccount,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="print the token itself, and nothing else")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Tell what is stored for an account.

    The token itself is shown only with --reveal. Exit code 1 if there is none.

    Example: subtokens token T11200001
    """
    from rich.table import Table

    from ...tasks.runtime import runtime
    from ...tasks.tokens.reader import TokenReader
    from .terminal import answers

    record = TokenReader(runtime().settings).get(account_id)
    if reveal:
        typer.echo(record.access_token)
        return
    facts = {
        "account_id": record.account_id,
        "kind": record.kind.name.lower(),
        "generation": record.generation,
        "issued_at": record.issued_at.isoformat(timespec="seconds"),
        "renew_at": record.renew_at.isoformat(timespec="seconds"),
        "expires_at": record.expires_at.isoformat(timespec="seconds"),
        "expires_in_seconds": round(record.expires_ms / 1000 - time.time()),
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), str(value))
    answers().print(table)
