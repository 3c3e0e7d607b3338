"""`subtokens accounts import`: enrol the accounts of a CSV file, or of a list of ids."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ...tasks.runtime import runtime
from ...tasks.tokens.store import TokenStore
from .account_file import accounts_of, content_of

_IN_A_SLICE = 1_000


@dataclass(slots=True)
class Imported:
    """What an import did, or would do."""

    new: int = 0
    enrolled_already: int = 0
    of_forgotten: int = 0  # of the new ones: they had been forgotten and are back


async def import_slice(
    store: TokenStore, pairs: list[tuple[str, str]], done: Imported, *, dry_run: bool
) -> None:
    """Enrol some of the accounts, or only see what that would do. Raises redis.RedisError."""
    ids = [account_id for account_id, _ in pairs]
    if dry_run:
        new = (await store.redis.zmscore(store.keys.due, ids)).count(None)
    else:
        new = await store.enrol(pairs, "imported")
    done.new += new
    done.enrolled_already += len(ids) - new


async def forgotten_ids(store: TokenStore) -> set[str]:
    """The accounts that were forgotten on purpose. Raises redis.RedisError."""
    members = cast("set[bytes]", await store.redis.smembers(store.keys.forgotten))
    return {account_id.decode() for account_id in members}


def import_accounts(
    file: Annotated[Path, typer.Argument(help="CSV, or one id a line; - reads stdin")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check the file and say what would happen")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for a script")] = False,
) -> None:
    """Enrol the accounts of a file; new ones are exchanged at once, forgotten ones come back.

    A bad line anywhere, and nothing is imported. Example: subtokens accounts import accounts.csv
    """
    process = runtime()
    fleet = process.fleet()
    partner_id = fleet.partner.partner_id
    listed = accounts_of(content_of(file), "stdin" if str(file) == "-" else str(file), partner_id)
    forgotten = process.call(forgotten_ids(fleet.store))
    pairs, console = list(listed.names.items()), Console(stderr=True)
    done = Imported(of_forgotten=len(forgotten & listed.names.keys()))
    columns = (TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("importing", total=len(pairs))
        for start in range(0, len(pairs), _IN_A_SLICE):
            part = pairs[start : start + _IN_A_SLICE]
            process.call(import_slice(fleet.store, part, done, dry_run=dry_run))
            progress.advance(bar, len(part))
    if as_json:
        counts = {"new": done.new, "enrolled_already": done.enrolled_already}
        counts |= {"of_forgotten": done.of_forgotten, "duplicates": listed.duplicates}
        facts = {"partner_id": partner_id, "accounts": len(pairs)}
        typer.echo(json.dumps(facts | counts | {"dry_run": dry_run}))
        return
    back = f" ({done.of_forgotten:,} of them had been forgotten)" if done.of_forgotten else ""
    repeats = f", {listed.duplicates:,} repeated lines" if listed.duplicates else ""
    told = f"{done.new:,} new{back}, {done.enrolled_already:,} enrolled already{repeats}"
    typer.echo(f"partner {partner_id}: {told}{'; a dry run, nothing was changed' * dry_run}")
