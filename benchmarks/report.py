"""What was measured: tables as each part prints and keeps them, joined into docs/benchmarks.md.

python benchmarks/report.py
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from platform import python_version, release

from bars import BARS, Bar

from subtokens.workers.private_redis import find_server

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "benchmarks" / "measured"
PAGE = ROOT / "docs" / "benchmarks.md"
PARTS = {
    "fan_out": "Fan-out, beside what people would use instead",
    "scale_out": "Scale-out",
    "steady_state": "Steady state",
    "due_set": "A million accounts in Redis",
    "commands": "Commands",
    "start_up": "Start-up",
    "reader": "Readers",
}
LIBRARIES = (
    *("celery", "redis", "hiredis", "httpx", "httptools", "uvloop"),
    *("dramatiq", "taskiq", "taskiq-redis", "gevent"),
)
Cell = str | float | None


class Report:
    """The tables of one part; printed as they come, and kept with their numbers as they are."""

    def __init__(self, part: str) -> None:
        self._file = KEPT / f"{part}.json"
        self._tables: list[dict[str, object]] = []

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        print(f"\n{as_markdown(title, head, rows)}", flush=True)
        self._tables.append({"title": title, "head": list(head), "rows": [list(r) for r in rows]})
        KEPT.mkdir(exist_ok=True)
        day = time.strftime("%d %B %Y", time.gmtime()).lstrip("0")
        kept = {"measured_on": day, "options": sys.argv[1:], "tables": self._tables}
        self._file.write_text(json.dumps(kept, indent=1))


@dataclass(frozen=True)
class Kept:
    """What a part has left, if it ran."""

    measured_on: str
    options: list[str]  # beside the usual: then it was a trial
    tables: list[dict]

    @classmethod
    def of(cls, part: str) -> "Kept":
        file = KEPT / f"{part}.json"
        kept = json.loads(file.read_text()) if file.exists() else {}
        return cls(kept.get("measured_on", ""), kept.get("options", []), kept.get("tables", []))

    @property
    def as_sections(self) -> list[str]:
        told = f"Measured on {self.measured_on}."
        if self.options:
            told += f" **A trial only**, with `{' '.join(self.options)}`."
        return [told, *(as_markdown(**table) for table in self.tables)]


def measured(bar: Bar) -> float | None:
    """The worst of the figures that the bar is about; None if one of its tables is missing."""
    figures = [
        row[table["head"].index(bar.column)]
        for table in Kept.of(bar.part).tables
        if table["title"] == bar.table and bar.column in table["head"]
        for row in table["rows"]
        if row[0].startswith(bar.rows)
    ]
    figures = [figure for figure in figures if figure is not None]
    if not figures:
        return None
    return min(figures) if bar.is_least else max(figures)


def bar_row(bar: Bar) -> list[Cell]:
    figure = measured(bar)
    if figure is None:
        verdict = "not measured"
    else:
        is_met = figure >= bar.bound if bar.is_least else figure <= bar.bound
        verdict = "met" if is_met else "**not met**"
        verdict += ", in a trial" if Kept.of(bar.part).options else ""
    bound = f"at {'least' if bar.is_least else 'most'} {as_text(bar.bound)}"
    return [bar.demand, bound, as_text(figure), verdict]


def as_text(cell: Cell) -> str:
    """A number with three digits that tell something; a count in full."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    decimals = 0 if isinstance(cell, int) else max(0, 2 - len(f"{abs(cell):.0f}") + 1)
    return f"{cell:,.{3 if abs(cell) < 0.9995 and decimals else decimals}f}"


def as_markdown(title: str, head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    lines = [f"**{title}**", ""] if title else []
    lines.append("| " + " | ".join(head) + " |")
    lines.append("|" + "|".join(["---"] + ["---:"] * (len(head) - 1)) + "|")
    lines += ["| " + " | ".join(map(as_text, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def machine() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = found.group(1) if found else "processor unknown"
    return f"{os.cpu_count()} cores ({name}), {memory:.0f} GiB, Linux {release().split('-')[0]}"


def versions() -> str:
    said = subprocess.run([find_server(), "--version"], capture_output=True, text=True, check=True)
    server = re.search(r"v=([\d.]+)", said.stdout)
    told = [
        f"Python {python_version()}",
        f"Redis server {server.group(1) if server else 'unknown'}",
    ]
    for library in LIBRARIES:
        try:
            told.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            continue
    return ", ".join(told)


def page() -> str:
    parts = {part: Kept.of(part) for part in PARTS}
    missing = [part for part, kept in parts.items() if not kept.tables]
    sections = chain.from_iterable(
        [f"## {title}", METHODS[part], *parts[part].as_sections]
        for part, title in PARTS.items()
        if part not in missing
    )
    bars = as_markdown("", ["demanded", "bar", "measured", ""], [bar_row(bar) for bar in BARS])
    told = [
        "# Benchmarks",
        "Measured by `make bench`, which writes this page.",
        *([f"Not measured: {', '.join(missing)}."] if missing else []),
        f"Machine: {machine()}.",
        f"Versions: {versions()}.",
        METHOD,
        "## Bars",
        "Of several figures that a bar is about, the worst is told.",
        bars.strip(),
        *(section.strip() for section in sections),
        (ROOT / "benchmarks" / "profile.md").read_text().strip(),
    ]
    return "\n\n".join(told) + "\n"


METHOD = """\
A bare upstream (`benchmarks/upstream.py`, uvloop, no check of anything) and a private Redis without
a file share core 1; what is measured runs on core 0, unless a part says otherwise. Every token has
800 characters and is another one. Sealing, outcomes of accounts and the record of the run are on,
and so is the rate limit, at 100,000 calls a second. Contestants run one after the other in each of
three rounds, in processes and a Redis of their own; ratios are taken within a round, and their
median is told; the plain script, which is near, is paired with us three times a round. Before it is
measured, a worker has worked: ours has brought the first token of each account, a rival's has
served 200 accounts. CPU is that of all processes of the contestant and of whoever sends its work.
Look at the ratios: absolute figures are this machine's."""

METHODS = {
    "fan_out": """\
All do the same calls and keep the token in Redis. Rivals send one task per account, by one
httpx.Client per process; they seal, limit, claim and record nothing. The plain script is asyncio
without a task queue, with our transport, sealing and batched writes.""",
    "scale_out": """\
One prefork worker with so many pool processes, free to use both cores, while Redis and the upstream
stay on core 1. Two cores allow no more than this: at 0 ms one process keeps a core busy, Redis and
the upstream a good part of the other, so that the speed-up tells of the machine. At 50 ms with 25
calls in flight per process, waiting limits and not the CPU. What follows is of one process on core
0; of the smaller fleets several fan-outs are counted.""",
    "steady_state": """\
Roles as `subtokens up` starts them: a worker of two processes for sweeps and renewals, another for
the rest, and beat, all on core 0. The fleet is placed in Redis as if it had been kept for long:
renewals are due evenly from the first second. Discovery is off. CPU is in % of one core; memory is
resident, with pages that processes share counted for each of them.""",
    "due_set": """\
The store's own scripts against a real Redis, from one process, with the clock pushed between the
steps. Every account is attached to one run, so that the run's sets count as memory too. `in Redis`
is how long the longest command of a call kept the server busy.""",
    "commands": """\
A fan-out by a real worker of one process, watched by MONITOR, which tells commands that clients
send from those inside scripts. Nothing is timed.""",
    "start_up": "Whole processes, from their start to their end, in turn.",
    "reader": """\
Single reads, one way after the other. `bare` is a GET by the same client of Redis and the opening
of the seal.""",
}


def main() -> None:
    PAGE.write_text(page())
    print(f"\nwritten: {PAGE.relative_to(ROOT)}")
    print(as_markdown("", ["demanded", "bar", "measured", ""], [bar_row(bar) for bar in BARS]))


if __name__ == "__main__":
    main()
