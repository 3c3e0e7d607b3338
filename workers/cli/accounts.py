"""`subtokens accounts`: which sub-accounts there are."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ...config.errors import InputError, SubtokensError
from ...config.ids import checked_account_ids
from ...tasks.accounts import discover_accounts
from ...tasks.look import release
from ...tasks.runtime import runtime
from ..application import command_line_app
from .imports import import_accounts
from .rows import account_rows

accounts = typer.Typer(help="Which sub-accounts there are.", no_args_is_help=True)
accounts.command("import")(import_accounts)
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for a script")]


class HeldBackError(SubtokensError):
    """Too many accounts are missing at once; an operator has to say that it is right."""


@accounts.command()
def discover(
    as_json: AsJson = False,
    drop_missing: Annotated[
        bool, typer.Option(help="drop what Dintero no longer lists, however many those are")
    ] = False,
) -> None:
    """Enrol every active sub-account that Dintero lists for the partner, and drop what is gone.

    An account is gone when two complete listings in a row lack it. Many at once are held back.
    """
    process = runtime()
    work = discover_accounts(process.fleet(), command_line_app(), drop_missing=drop_missing)
    found = process.call(work)
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
    else:
        typer.echo(
            f"partner {found.partner_id}: {found.listed} listed, {found.enrolled} new, "
            f"{found.skipped} skipped, {found.gone} gone"
        )
    if found.held_back:
        raise HeldBackError(
            f"{found.held_back} accounts are missing from the list, too many to drop without a "
            "word: if that is right, subtokens accounts discover --drop-missing"
        )


@accounts.command("list")
def list_accounts(as_json: AsJson = False) -> None:
    """List the enrolled sub-accounts with the state of their tokens."""
    process = runtime()
    rows = process.call(account_rows(process.fleet().store))
    if as_json:
        typer.echo(json.dumps([row.as_dict() for row in rows]))
        return
    table = Table("account", "name", "last outcome", "token expires at (UTC)", box=None)
    for row in rows:
        expires = f"{row.expires_at:%Y-%m-%d %H:%M:%S}" if row.expires_at else "no token yet"
        table.add_row(row.account_id, row.name, row.outcome or "-", expires)
    Console().print(table)


@accounts.command()
def forget(
    account_ids: Annotated[list[str], typer.Argument(help="ids such as T11200001")],
) -> None:
    """Drop accounts and their tokens; discovery leaves them out until they are imported again."""
    process = runtime()
    fleet = process.fleet()
    ids = checked_account_ids(account_ids, fleet.partner.partner_id)
    if not ids:
        raise InputError("no account id was given")
    settled = process.call(fleet.store.forget(ids))
    process.call(release(fleet, command_line_app(), settled.ended_runs))
    typer.echo(f"{settled.accounts} of {len(ids)} accounts were enrolled and are forgotten")
