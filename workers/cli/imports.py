"""`subtokens accounts import`: enrol the accounts of a CSV file, or of a list of ids."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .account_file import accounts_of, content_of
from .options import AsJson


def import_accounts(
    file: Annotated[Path, typer.Argument(help="CSV, or one id a line; - reads stdin")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check the file and say what would happen")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Enrol the accounts of a file.

    New ones are exchanged at once, forgotten ones come back. A bad line anywhere, and nothing is
    imported.

    Example: subtokens accounts import accounts.csv --dry-run
    """
    from ...tasks.runtime import runtime
    from .importing import enrol
    from .terminal import say

    fleet = runtime().fleet()
    partner_id = fleet.partner.partner_id
    listed = accounts_of(content_of(file), "stdin" if str(file) == "-" else str(file), partner_id)
    done = enrol(fleet.store, listed.names, dry_run=dry_run)
    if as_json:
        facts = {"partner_id": partner_id, "accounts": len(listed.names)} | asdict(done)
        typer.echo(json.dumps(facts | {"duplicates": listed.duplicates, "dry_run": dry_run}))
        return
    back = f" ({done.of_forgotten:,} of them had been forgotten)" if done.of_forgotten else ""
    repeats = f", {listed.duplicates:,} repeated lines" if listed.duplicates else ""
    told = f"{done.new:,} new{back}, {done.enrolled_already:,} enrolled already{repeats}"
    say(f"partner {partner_id}: {told}{'; a dry run, nothing was changed' * dry_run}")
