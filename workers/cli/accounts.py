"""`subtokens accounts`: which sub-accounts there are."""

import json
from typing import Annotated

import typer

from ...config.errors import InputError
from ...config.ids import checked_account_ids
from .imports import import_accounts
from .options import AsJson

accounts = typer.Typer(
    help="Enrol, list and forget sub-accounts.\n\nExample: subtokens accounts list",
    no_args_is_help=True,
)
accounts.command("import")(import_accounts)


@accounts.command()
def discover(
    as_json: AsJson = False,
    drop_missing: Annotated[
        bool,
        typer.Option(
            "--drop-missing", help="drop what Dintero no longer lists, however many those are"
        ),
    ] = False,
) -> None:
    """Enrol what Dintero lists, and drop what is gone.

    An account is gone when two complete listings in a row lack it. Many at once are held
    back, and the exit code is 1.

    Example: subtokens accounts discover
    """
    from ...tasks.accounts import discover_accounts
    from ...tasks.runtime import runtime
    from ..application import command_line_app
    from .terminal import say

    process = runtime()
    work = discover_accounts(process.fleet(), command_line_app(), drop_missing=drop_missing)
    found = process.call(work)
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
    else:
        say(
            f"partner {found.partner_id}: {found.listed} listed, {found.enrolled} new, "
            f"{found.skipped} skipped, {found.gone} gone"
        )
    if found.held_back:
        say(
            f"{found.held_back} accounts are missing from the list, too many to drop without a "
            "word: if that is right, subtokens accounts discover --drop-missing",
            stderr=True,
        )
        raise typer.Exit(1)


@accounts.command("list")
def list_accounts(as_json: AsJson = False) -> None:
    """List the enrolled sub-accounts with the state of their tokens.

    Example: subtokens accounts list --json
    """
    from rich.markup import escape
    from rich.table import Column, Table

    from ...tasks.runtime import runtime
    from .rows import account_rows
    from .terminal import answers

    process = runtime()
    rows = process.call(account_rows(process.fleet().store))
    if as_json:
        typer.echo(json.dumps([row.as_dict() for row in rows]))
        return
    table = Table(
        Column("account", no_wrap=True),
        "name",
        "last outcome",
        Column("token expires at (UTC)", no_wrap=True),
        box=None,
    )
    for row in rows:
        expires = f"{row.expires_at:%Y-%m-%d %H:%M:%S}" if row.expires_at else "no token yet"
        table.add_row(row.account_id, escape(row.name), row.outcome or "-", expires)
    answers().print(table)


@accounts.command()
def forget(
    account_ids: Annotated[list[str], typer.Argument(help="ids such as T11200001")],
    as_json: AsJson = False,
) -> None:
    """Drop accounts and their tokens.

    Discovery leaves them out until they are imported again.

    Example: subtokens accounts forget T11200001 T11200002
    """
    from ...tasks.look import release
    from ...tasks.runtime import runtime
    from ..application import command_line_app
    from .terminal import say

    process = runtime()
    fleet = process.fleet()
    ids = checked_account_ids(account_ids, fleet.partner.partner_id)
    if not ids:
        raise InputError("no account id was given")
    settled = process.call(fleet.store.forget(ids))
    process.call(release(fleet, command_line_app(), settled.ended_runs))
    if as_json:
        partner_id = fleet.partner.partner_id
        typer.echo(json.dumps({"partner_id": partner_id, "forgotten": settled.accounts}))
    else:
        say(f"{settled.accounts} of {len(ids)} accounts were enrolled and are forgotten")
