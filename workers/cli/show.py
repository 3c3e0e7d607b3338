"""`subtokens status` and `subtokens token`: look, without changing anything."""

import json
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ...config.ids import checked_account_id
from ...tasks.runtime import runtime
from ...tasks.tokens.reader import TokenReader
from ...tasks.tokens.status import fleet_status
from .accounts import AsJson


def status(as_json: AsJson = False) -> None:
    """Tell how the fleet stands: valid tokens, what is due, what fails."""
    process = runtime()
    fleet = process.call(fleet_status(process.fleet().store))
    if as_json:
        typer.echo(json.dumps(fleet.as_dict()))
        return
    table = Table(show_header=False, box=None, title=f"partner {fleet.partner_id}")
    for name, value in fleet.as_dict().items():
        if name != "partner_id":
            shown = f"{value:.1f}" if isinstance(value, float) else str(value)
            table.add_row(name.replace("_", " "), shown if value is not None else "-")
    Console().print(table)


def token(
    account_id: Annotated[str, typer.Argument(help="an id such as T11200001")],
    reveal: Annotated[bool, typer.Option(help="print the token itself, and nothing else")] = False,
    as_json: AsJson = False,
) -> None:
    """Tell what is stored for an account; the token itself only with --reveal."""
    settings = runtime().settings
    record = TokenReader(settings).get(checked_account_id(account_id, settings.partner_id))
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
