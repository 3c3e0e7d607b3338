"""What one check found, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

from ..exit_codes import FAILED, USUAL

Level = Literal["ok", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome; no text of it holds a secret."""

    name: str
    level: Level
    text: str
    remedy: str = ""
    exit_code: int = USUAL  # that it asks for


def well(name: str, text: str) -> Finding:
    """All is well, or it is good to know."""
    return Finding(name, "ok", text)


def doubtful(name: str, text: str, remedy: str) -> Finding:
    """It works, and will not always; or it could not be looked at."""
    return Finding(name, "warning", text, remedy)


def failed(name: str, text: str, remedy: str, exit_code: int = FAILED) -> Finding:
    """It does not work."""
    return Finding(name, "failure", text, remedy, exit_code)
