"""`subtokens explain` and `subtokens token`: look at one account, without changing anything."""

import json
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ...config.ids import checked_account_id
from ...tasks.runtime import runtime
from ...tasks.tokens.reader import TokenReader
from .accounts import AsJson
from .explain import account_facts


def explain(
    account_id: Annotated[str, typer.Argument(help="an id such as T11200001")],
    as_json: AsJson = False,
) -> None:
    """Tell in words how an account stands, what comes next and why then, and who is at it.

    Example: subtokens explain T11200001
    """
    process = runtime()
    fleet = process.fleet()
    checked = checked_account_id(account_id, fleet.partner.partner_id)
    facts = process.call(account_facts(fleet.store, checked))
    typer.echo(json.dumps(facts.as_dict()) if as_json else "\n".join(facts.sentences()))
    if facts.due_score is None:
        raise typer.Exit(1)


def token(
    account_id: Annotated[str, typer.Argument(help="an id such as T11200001")],
    reveal: Annotated[bool, typer.Option(help="print the token itself, and nothing else")] = False,
    as_json: AsJson = False,
) -> None:
    """Tell what is stored for an account; the token itself only with --reveal."""
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
    Console().print(table)
