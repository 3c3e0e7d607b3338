"""`subtokens keys`: make keys, see which seal and open, derive a reader's. See docs/keys.md."""

import base64
import json
import os
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ...config.errors import InputError
from ...config.settings import Settings, load
from ...tasks.runtime import runtime
from ...tasks.tokens.key_use import ignorant_of
from ...tasks.tokens.sealing import derived_keys
from .accounts import AsJson
from .key_status import KeyStatus, key_status

keys = typer.Typer(help="The keys that seal the tokens, and their rotation.", no_args_is_help=True)


@keys.command()
def generate(
    key_id: Annotated[
        str | None, typer.Option("--id", help="1-16 letters, digits; k and today's date if none")
    ] = None,
) -> None:
    """Print a new key for SUBTOKENS_ENCRYPTION_KEYS. Keep it as safe as the client secret."""
    chosen = f"k{datetime.now(UTC):%Y%m%d}" if key_id is None else key_id
    if not (chosen.isascii() and chosen.isalnum() and len(chosen) <= 16):
        raise InputError("--id must be 1 to 16 letters or digits, such as k2")
    typer.echo(_entry(chosen, os.urandom(32)))


@keys.command()
def derive(
    partner: Annotated[str, typer.Option(help="whose tokens the reader may open")],
) -> None:
    """Print a partner's own keys for SUBTOKENS_READER_KEYS: they open no other partner's tokens.

    Example: subtokens keys derive --partner T11200000
    """
    settings = load(Settings)
    partner_id = settings.partner(partner).partner_id
    typer.echo(
        f"this is a secret: whoever has it can read all tokens of {partner_id}; it belongs into "
        "SUBTOKENS_READER_KEYS of a reader, which then needs no SUBTOKENS_ENCRYPTION_KEYS",
        err=True,
    )
    derived = derived_keys(partner_id, settings.master_keys)
    typer.echo(",".join(_entry(key_id, key) for key_id, key in derived.items()))


@keys.command()
def status(as_json: AsJson = False) -> None:
    """Tell which keys seal and open, who knows them, and what may be promoted or removed.

    Exit code 1 if a live worker does not know the first key, or a record's key is nowhere held.
    """
    process = runtime()
    chosen = process.settings.partner_id
    partner_ids = [chosen] if chosen else process.settings.partner_ids
    found = [process.call(key_status(process.fleet(one).store)) for one in partner_ids]
    if as_json:
        typer.echo(json.dumps([one.as_dict() for one in found]))
    else:
        for one in found:
            _show(one)
    if not all(one.is_well for one in found):
        raise typer.Exit(1)


def _show(found: KeyStatus) -> None:
    table = Table("key", "", "records", "the last expires (UTC)", "not known to", box=None)
    table.title = f"partner {found.partner_id}"
    for key_id in found.all_ids:
        last = found.last_expiry(key_id)
        table.add_row(
            key_id,
            _role(found, key_id),
            f"{found.records.by_key[key_id]:,}",
            f"{last:%Y-%m-%d %H:%M:%S}" if last else "-",
            f"{len(ignorant_of(key_id, found.workers))} of {len(found.workers)}",
        )
    workers = Table("live worker", "its keys", box=None)
    for holder, key_ids in found.workers.items():
        workers.add_row(holder, ", ".join(key_ids))
    console = Console()
    console.print(table)
    if found.workers:
        console.print(workers)
    for sentence in found.sentences():
        console.print(sentence, soft_wrap=True, markup=False, highlight=False)


def _role(found: KeyStatus, key_id: str) -> str:
    if key_id not in found.key_ids:
        return "not held here"
    return "seals" if key_id == found.seals_now else "opens"


def _entry(key_id: str, key: bytes) -> str:
    return f"{key_id}:{base64.b64encode(key).decode()}"
