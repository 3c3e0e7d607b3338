"""Checks of what the settings say, before anybody is called."""

import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path

from pydantic_settings import DotEnvSettingsSource

from ...config.errors import SettingsError
from ...config.settings import PREFIX, Settings
from ..exit_codes import BAD_INPUT
from .finding import Finding, doubtful, failed, well

_DOTENV = Path(".env")
_KNOWN = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
_OF_COMPOSE = {f"{PREFIX}BROKER_PASSWORD", f"{PREFIX}STORE_PASSWORD"}  # docker-compose.yml's own
_FEWEST_KINDS_OF_BYTES = 12  # 32 random bytes hold about 30


def names_given() -> set[str]:
    """The names that the environment and .env hold, ours and others'."""
    try:
        in_file = set(DotEnvSettingsSource(Settings).env_vars)
    except (OSError, UnicodeDecodeError):
        in_file = set()  # the settings do not load either, and say why
    return set(os.environ) | in_file


def misspelt_names(names: Iterable[str]) -> list[Finding]:
    """A warning for each name that looks like a setting and is none."""
    found = []
    for name in sorted({name.upper() for name in names}):
        if not name.startswith(PREFIX.rstrip("S_")) or name in {*_KNOWN, *_OF_COMPOSE}:
            continue
        # Where a colon stands for the equals sign, the value is a part of the name.
        shown = re.match("[A-Z0-9_]*", name)
        plain = shown.group() if shown else ""
        nearest = get_close_matches(plain, _KNOWN, n=1)
        if plain in _KNOWN:
            text, remedy = f"{plain} has no equals sign", f"write {plain}=… in .env"
        elif nearest:
            text, remedy = f"{plain} is no setting and is ignored", f"is {nearest[0]} meant?"
        else:
            text = f"{plain} is no setting and is ignored"
            remedy = "remove it; .env.example names all settings"
        found.append(doubtful("names", text, remedy))
    return found


def unusable_settings(error: SettingsError) -> list[Finding]:
    """A failure for each problem, as all are named at once."""
    remedy = "set it in the environment or in .env; .env.example names all with their defaults"
    return [failed("settings", text, remedy, BAD_INPUT) for text in error.problems]


def files_of_secrets(settings: Settings) -> Finding:
    """Whether other users of this machine can read the files that hold secrets."""
    files = list(dict.fromkeys(settings.files_read_by_others()))
    if _DOTENV.is_file() and _DOTENV.stat().st_mode & 0o044:
        files.append(_DOTENV)
    if not files:
        return well("files", "no other user can read a file with secrets")
    named = " ".join(map(str, files))
    return doubtful("files", f"other users of this machine can read {named}", f"chmod 600 {named}")


def toy_keys(master_keys: Mapping[str, bytes]) -> Finding:
    """Whether the encryption keys look like random bytes."""
    toys = [key_id for key_id, key in master_keys.items() if is_toy(key)]
    if not toys:
        return well("encryption keys", f"{', '.join(master_keys)}; the first seals")
    return doubtful(
        "encryption keys",
        f"{', '.join(toys)} is an example or typed by hand, not 32 random bytes",
        "put a random one first and the old behind it: echo k2:$(openssl rand -base64 32)",
    )


def is_toy(key: bytes) -> bool:
    """Whether a key is of a kind that no random source gives: equal bytes, a row, text."""
    steps = {(after - before) % 256 for before, after in pairwise(key)}
    is_text = key.isascii() and key.decode().isprintable()
    return len(steps) == 1 or len(set(key)) < _FEWEST_KINDS_OF_BYTES or is_text
