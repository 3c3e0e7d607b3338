"""What calls take and how long they wait: counted in each process, added up in Redis for all."""

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

from redis.exceptions import RedisError

from .lanes import Lane
from .scripts import Scripts

BOUNDS_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_WRITTEN_EVERY_SECONDS = 5.0  # Prometheus asks less often

_Counts = defaultdict[tuple[tuple[str, ...], int | Literal["us"]], int]


class Metrics:
    """One process's counts of one partner since they were last written."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self._counts: _Counts = defaultdict(int)
        self._written_at = time.monotonic()

    def note_call(self, call: str, outcome: str, seconds: float) -> None:
        """Count a call that has ended; it costs a microsecond, as there are many."""
        self._note(("call", call, outcome), seconds)

    def note_wait(self, lane: Lane, seconds: float) -> None:
        """Count a wait for permits of a lane."""
        self._note(("wait", lane), max(0.0, seconds))

    async def write(self, *, is_last: bool = False) -> None:
        """Add the counts to those in Redis, if it is time or these are the last for now.

        They are figures: what Redis does not take is dropped, and fails nothing.
        """
        now = time.monotonic()
        if not self._counts or not (is_last or now - self._written_at >= _WRITTEN_EVERY_SECONDS):
            return
        counts, self._counts = self._counts, defaultdict(int)
        self._written_at = now
        with suppress(RedisError):
            await self._scripts.run("note_metrics", *_flat(counts))

    def _note(self, name: tuple[str, ...], seconds: float) -> None:
        self._counts[name, bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self._counts[name, "us"] += int(seconds * 1e6)


def _flat(counts: _Counts) -> Iterator[str | int]:
    for (name, part), by in counts.items():
        yield ":".join([*name, str(part)])
        yield by
