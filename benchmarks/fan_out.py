"""Accounts a second and CPU per account of a fan-out, beside what people would use instead.

    python benchmarks/fan_out.py [--accounts 10000] [--rounds 3] [--only celery]

All contestants run in each round, one after the other, so that ratios hold when the machine's speed
drifts; what is told is the median of the ratios of pairs. The plain script, which is near, is
paired with us three times a round.
"""

import argparse
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from places import Place
from report import Cell, Report

CELERY = ("celery", "worker", "--without-gossip", "--without-mingle", "-l", "WARNING")


SLOW_ACCOUNTS, SLOW_WAITING_ACCOUNTS = 2_000, 600


@dataclass(frozen=True)
class Contestant:
    name: str
    drives: str
    worker: Sequence[str] = ()
    accounts: int = SLOW_ACCOUNTS  # of those that are slow: enough to time, few enough to wait for


def celery(name: str, *options: str) -> Contestant:
    command = ("celery", "-A", "rivals.on_celery", *CELERY[1:], *options)
    return Contestant(f"Celery, {name}", "celery", command)


OURS = Contestant(
    "subtokens", "subtokens", ("celery", "-A", "subtokens.workers", *CELERY[1:], "-c", "1"), 10_000
)
SCRIPT = Contestant("plain asyncio script", "script", accounts=10_000)
POOLS = (
    celery("prefork 2", "-c", "2"),
    celery("prefork 8", "-c", "8"),
    celery("threads 32", "-P", "threads", "-c", "32"),
    celery("gevent 100", "-P", "gevent", "-c", "100"),
)
PEERS = (
    Contestant(
        "dramatiq, 32 threads",
        "dramatiq",
        ("dramatiq", "rivals.on_dramatiq", "-p", "1", "-t", "32"),
    ),
    Contestant(
        "taskiq, 100 at once",
        "taskiq",
        ("taskiq", "worker", "rivals.on_taskiq:broker", "-w", "1", "--max-async-tasks", "100"),
    ),
)


NEAR = {SCRIPT.name: 3}  # how often a round pairs us with whom: what is near drowns in noise


@dataclass(frozen=True)
class Figures:
    per_second: float
    cpu_ms: float


Pair = tuple[Figures, Figures]  # ours and theirs, one right after the other


def measure(contestant: Contestant, latency_seconds: float, token_kind: str) -> Figures:
    accounts = contestant.accounts
    if latency_seconds and accounts == SLOW_ACCOUNTS:
        accounts = SLOW_WAITING_ACCOUNTS
    settings = {"concurrency": 400, "batch_size": 100, "token_kind": token_kind}
    with Place(accounts, latency_seconds, **settings) as place:
        worker = place.start("worker", *contestant.worker) if contestant.worker else None
        took = place.drive(contestant.drives, worker)
    return Figures(accounts / took["seconds"], took["cpu_seconds"] / accounts * 1000)


def rounds_of(
    us: Contestant,
    rivals: Sequence[Contestant],
    latency_seconds: float,
    token_kind: str,
    rounds: int,
) -> tuple[list[Figures], dict[str, list[Pair]]]:
    """All figures of ours, and the pairs by rival."""

    def measured(contestant: Contestant, number: int) -> Figures:
        figures = measure(contestant, latency_seconds, token_kind)
        print(
            f"{token_kind} {latency_seconds * 1000:g} ms, round {number + 1}: {contestant.name} "
            f"{figures.per_second:.0f}/s, {figures.cpu_ms:.3f} ms",
            flush=True,
        )
        return figures

    ours: list[Figures] = []
    pairs: dict[str, list[Pair]] = {rival.name: [] for rival in rivals}
    for number in range(rounds):
        ours.append(measured(us, number))
        for rival in rivals:
            pairs[rival.name].append((ours[-1], measured(rival, number)))
            for _ in range(NEAR.get(rival.name, 1) - 1):
                ours.append(measured(us, number))
                pairs[rival.name].append((ours[-1], measured(rival, number)))
    return ours, pairs


def rows_of(ours: list[Figures], pairs: dict[str, list[Pair]]) -> list[list[Cell]]:
    """Medians of the figures, and of the ratios of each pair."""

    def medians(figures: Iterable[Figures]) -> list[Cell]:
        each = list(figures)
        return [
            statistics.median(one.per_second for one in each),
            statistics.median(one.cpu_ms for one in each),
        ]

    rows = [[OURS.name, *medians(ours), None, None]]
    for name, of_rival in pairs.items():
        faster = statistics.median(our.per_second / their.per_second for our, their in of_rival)
        cheaper = statistics.median(their.cpu_ms / our.cpu_ms for our, their in of_rival)
        rows.append([name, *medians(their for _, their in of_rival), faster, cheaper])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accounts", type=int, default=10_000, help="at most so many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="contestants whose names hold this")
    parser.add_argument("--kinds", default="exchange,account")
    parser.add_argument("--latencies", default="0,0.05")
    chosen = parser.parse_args()
    report = Report("fan_out")
    for kind in chosen.kinds.split(","):
        rivals = (SCRIPT, *POOLS, *(PEERS if kind == "exchange" else ()))
        us, *field = [
            replace(one, accounts=min(one.accounts, chosen.accounts))
            for one in (OURS, *rivals)
            if one is OURS or chosen.only in one.name
        ]
        for latency in map(float, chosen.latencies.split(",")):
            rows = rows_of(*rounds_of(us, field, latency, kind, chosen.rounds))
            calls = "one call" if kind == "exchange" else "two calls"
            head = [
                "",
                "accounts/s",
                "CPU ms/account",
                "subtokens is faster by",
                "needs less CPU by",
            ]
            report.table(f"{calls} per account, {latency * 1000:g} ms", head, rows)


if __name__ == "__main__":
    main()
