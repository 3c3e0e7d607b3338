"""Durations as people write them."""

import re
from datetime import timedelta

from .errors import InputError

Duration = float | timedelta | str
LONGEST_TIMEOUT_SECONDS = 86_400  # of a step and its run

_TEXT = re.compile(
    r"(?=[0-9])" + r" ?".join(rf"(?:([0-9]+(?:\.[0-9]+)?){unit})?" for unit in ("d", "h", "m", "s"))
)
_SECONDS = (86_400, 3600, 60, 1)
_MOST_SECONDS = 1e9  # thirty years: more is a mistake, and soon beyond what datetime can tell


def seconds_of(value: Duration) -> float:
    """The seconds in a number of them, a timedelta or text such as 45s, 90m, 1h30m or 1d.

    Raises InputError for what is none of these, negative or beyond thirty years.
    """
    seconds: float = -1
    if isinstance(value, (int, float)):
        seconds = value
    elif isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str) and (match := _TEXT.fullmatch(value)):
        amounts = map(float, match.groups("0"))
        seconds = sum(a * size for a, size in zip(amounts, _SECONDS, strict=True))
    if 0 <= seconds <= _MOST_SECONDS:
        return float(seconds)
    raise InputError(
        f"{value!r:.40} is no duration: write it such as 45s, 90m, 1h30m or 1d; a number from "
        "Python is seconds"
    )
