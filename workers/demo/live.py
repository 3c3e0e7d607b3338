"""The live picture: how the fleet renews itself while a batch job reads."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ...tasks.fleet import Fleet
from ...tasks.runtime import runtime
from ...tasks.tokens.reader import TokenReader
from ...tasks.tokens.status import FleetStatus
from ..fleets import status_of

_LOOK_SECONDS = 0.5
_CELLS = 40
_BLOCKS = "▁▂▃▄▅▆▇█"
_COLOURS = {"fresh": "green", "stale": "yellow", "expired": "red"}


@dataclass(slots=True)
class Watched:
    """What was seen: reads of a token by a batch job, and those that found none."""

    reads: int = 0
    misses: int = 0
    per_second: deque[float] = field(default_factory=lambda: deque(maxlen=_CELLS))


def watch(
    console: Console, fleet: Fleet, account_ids: Sequence[str], seconds: float
) -> tuple[FleetStatus, Watched]:
    """Show the fleet for so long, reading all tokens at each look; returns how it then stood."""
    reader, seen = TokenReader(runtime().settings), Watched()
    ends_at = time.monotonic() + seconds
    before, looked_at = _status(fleet), time.monotonic()
    with Live(console=console, refresh_per_second=4) as live:
        while (left := ends_at - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_SECONDS))
            seen.reads += len(account_ids)
            seen.misses += len(account_ids) - len(reader.get_many(account_ids))
            now, at = _status(fleet), time.monotonic()
            seen.per_second.append((now.renewed - before.renewed) / (at - looked_at))
            before, looked_at = now, at
            live.update(_picture(now, seen, max(0.0, left)))
    reader.close()
    return before, seen


def _status(fleet: Fleet) -> FleetStatus:
    return runtime().call(status_of(fleet))


def _picture(fleet: FleetStatus, seen: Watched, left: float) -> Group:
    table = Table(show_header=False, box=None)
    for name, colour in _COLOURS.items():
        count: int = getattr(fleet, name)
        cells = round(count / max(1, fleet.enrolled) * _CELLS)
        table.add_row(name, Text("█" * max(cells, int(count > 0)), style=colour), f"{count:,}")
    top = max(*seen.per_second, 1.0)
    line = "".join(_BLOCKS[min(7, int(rate / top * 8))] for rate in seen.per_second)
    table.add_row("renewals", Text(line, style="cyan"), f"{seen.per_second[-1]:.0f} a second")
    table.add_row("reads", f"{seen.reads:,} by a batch job", f"{seen.misses:,} without a token")
    return Group(Text(f"Renewing before expiry, {left:.0f} s more:"), table)
