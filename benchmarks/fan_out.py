"""Accounts a second and CPU per account of a fan-out, beside what people would use instead.

    python benchmarks/fan_out.py [--accounts 10000] [--rounds 3] [--only celery]

All contestants run in each round, one after the other, so that ratios hold when the machine's speed
drifts; what is told is the median of the rounds' ratios.
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


@dataclass(frozen=True)
class Figures:
    per_second: float
    cpu_ms: float


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
    contestants: Iterable[Contestant], latency_seconds: float, token_kind: str, rounds: int
) -> dict[str, list[Figures]]:
    found: dict[str, list[Figures]] = {one.name: [] for one in contestants}
    for number in range(rounds):
        for one in contestants:
            figures = measure(one, latency_seconds, token_kind)
            found[one.name].append(figures)
            print(
                f"{token_kind} {latency_seconds * 1000:g} ms, round {number + 1}: {one.name} "
                f"{figures.per_second:.0f}/s, {figures.cpu_ms:.3f} ms",
                flush=True,
            )
    return found


def rows_of(found: dict[str, list[Figures]]) -> list[list[Cell]]:
    """Medians, and of the ratios of ours to theirs in the same round."""
    ours, rows = found[OURS.name], []
    for name, figures in found.items():
        pairs = list(zip(ours, figures, strict=True))
        faster = statistics.median(our.per_second / their.per_second for our, their in pairs)
        cheaper = statistics.median(their.cpu_ms / our.cpu_ms for our, their in pairs)
        is_ours = name == OURS.name
        rows.append(
            [
                name,
                statistics.median(one.per_second for one in figures),
                statistics.median(one.cpu_ms for one in figures),
                None if is_ours else faster,
                None if is_ours else cheaper,
            ]
        )
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
        field = [
            replace(one, accounts=min(one.accounts, chosen.accounts))
            for one in (OURS, *rivals)
            if one is OURS or chosen.only in one.name
        ]
        for latency in map(float, chosen.latencies.split(",")):
            rows = rows_of(rounds_of(field, latency, kind, chosen.rounds))
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
