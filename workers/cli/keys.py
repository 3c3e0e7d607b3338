"""`subtokens keys`: make keys, see which seal and open, derive a reader's. See docs/keys.md."""

import base64
import json
import os
from datetime import UTC, datetime
from typing import Annotated

import typer

from ...config.errors import InputError
from .options import AsJson

keys = typer.Typer(
    help="Make and rotate the keys that seal the tokens.\n\nExample: subtokens keys status",
    no_args_is_help=True,
)


@keys.command()
def generate(
    key_id: Annotated[
        str | None, typer.Option("--id", help="1-16 letters, digits; k and today's date if none")
    ] = None,
) -> None:
    """Print a new key for SUBTOKENS_ENCRYPTION_KEYS.

    Keep it as safe as the client secret.

    Example: subtokens keys generate --id k2
    """
    chosen = f"k{datetime.now(UTC):%Y%m%d}" if key_id is None else key_id
    if not (chosen.isascii() and chosen.isalnum() and len(chosen) <= 16):
        raise InputError("--id must be 1 to 16 letters or digits, such as k2")
    typer.echo(_entry(chosen, os.urandom(32)))


@keys.command()
def derive(
    partner: Annotated[str, typer.Option(help="whose tokens the reader may open")],
) -> None:
    """Print a partner's own keys for SUBTOKENS_READER_KEYS.

    They open no other partner's tokens.

    Example: subtokens keys derive --partner T11200000
    """
    from ...config.settings import Settings, load
    from ...tasks.tokens.sealing import derived_keys
    from .terminal import say

    settings = load(Settings)
    partner_id = settings.partner(partner).partner_id
    say(
        f"this is a secret: whoever has it can read all tokens of {partner_id}; it belongs into "
        "SUBTOKENS_READER_KEYS of a reader, which then needs no SUBTOKENS_ENCRYPTION_KEYS",
        stderr=True,
    )
    derived = derived_keys(partner_id, settings.master_keys)
    typer.echo(",".join(_entry(key_id, key) for key_id, key in derived.items()))


@keys.command()
def status(as_json: AsJson = False) -> None:
    """Tell which keys seal and open, and what may be changed.

    Exit code 1 if a live worker does not know the first key, or a record's key is nowhere held.

    Example: subtokens keys status
    """
    from ...tasks.runtime import runtime
    from ..fleets import chosen_fleets
    from .key_status import key_status
    from .key_table import show

    found = [runtime().call(key_status(fleet.store)) for fleet in chosen_fleets()]
    if as_json:
        typer.echo(json.dumps([one.as_dict() for one in found]))
    else:
        for one in found:
            show(one)
    if not all(one.is_well for one in found):
        raise typer.Exit(1)


def _entry(key_id: str, key: bytes) -> str:
    return f"{key_id}:{base64.b64encode(key).decode()}"
