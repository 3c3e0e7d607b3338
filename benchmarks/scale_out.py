"""What more worker processes bring, and whether the cost of an account grows with the fleet.

python benchmarks/scale_out.py [--accounts 10000] [--sizes 1000,10000,100000] [--rounds 3]
"""

import argparse
from collections.abc import Callable, Iterable
from functools import partial
from statistics import median

from places import OURS_CORE, Place
from report import Report

PROCESSES = (1, 2, 4)
WORKER = (
    *("celery", "-A", "subtokens.workers", "worker"),
    *("--without-gossip", "--without-mingle", "-l", "WARNING"),
)


def measure(
    accounts: int,
    processes: int,
    latency_ms: float,
    concurrency: int,
    *,
    core: int | None = OURS_CORE,
    fan_outs: int = 1,
) -> dict[str, float]:
    """Accounts a second and CPU ms per account, of as many fan-outs over all accounts."""
    with Place(accounts, latency_ms / 1000, concurrency=concurrency) as place:
        worker = place.start("worker", *WORKER, "-c", str(processes), core=core)
        took = place.drive("subtokens", worker, f"--fan-outs={fan_outs}", core=core)
    done = accounts * fan_outs
    return {
        "per_second": done / took["seconds"],
        "cpu_ms": took["cpu_seconds"] * 1000 / done,
    }


def rounds_of(
    measures: dict[int, Callable[[], dict[str, float]]], rounds: int, what: str
) -> dict[int, list[dict[str, float]]]:
    found: dict[int, list[dict[str, float]]] = {key: [] for key in measures}
    for number in range(rounds):
        for key, one in measures.items():
            found[key].append(one())
            said = ", ".join(f"{name} {value:.3f}" for name, value in found[key][-1].items())
            print(f"{what}, round {number + 1}: {key}: {said}", flush=True)
    return found


def figure(runs: Iterable[dict[str, float]], name: str) -> float:
    return median(run[name] for run in runs)


def ratio(runs: list[dict[str, float]], to: list[dict[str, float]], name: str) -> float:
    return median(a[name] / b[name] for a, b in zip(runs, to, strict=True))


def scale(report: Report, accounts: int, rounds: int, latency_ms: float, concurrency: int) -> None:
    fan_outs = 1 if latency_ms else 3  # to last for some seconds

    def run(processes: int) -> dict[str, float]:
        return measure(accounts, processes, latency_ms, concurrency, core=None, fan_outs=fan_outs)

    measures = {count: partial(run, count) for count in PROCESSES}
    found = rounds_of(measures, rounds, f"processes at {latency_ms:g} ms")
    rows = [
        [
            f"{count}",
            figure(runs, "per_second"),
            ratio(runs, found[1], "per_second"),
            figure(runs, "cpu_ms"),
        ]
        for count, runs in found.items()
    ]
    head = ["processes", "accounts/s", "speed-up", "CPU ms/account"]
    report.table(f"{latency_ms:g} ms, {concurrency} calls in flight per process", head, rows)


def one_process(report: Report, accounts: int, rounds: int) -> None:
    """How much of what waiting allows for is reached."""
    ideal = 100 / 0.05
    measures = {100: lambda: measure(accounts, 1, 50, 100)}
    runs = rounds_of(measures, rounds, "one process at 50 ms, calls in flight")[100]
    shares = [run["per_second"] / ideal * 100 for run in runs]
    head = ["", "accounts/s", "concurrency / latency", "% of concurrency / latency"]
    report.table(
        "one process, 100 calls in flight, 50 ms",
        head,
        [["subtokens", figure(runs, "per_second"), ideal, median(shares)]],
    )


def sizes(report: Report, of: list[int], rounds: int) -> None:
    def fan_outs(size: int) -> int:
        return max(1, min(10, 20_000 // size))

    def run(size: int) -> dict[str, float]:
        return measure(size, 1, 0, 400, fan_outs=fan_outs(size))

    found = rounds_of({size: partial(run, size) for size in of}, rounds, "accounts")
    smallest = found[of[0]]
    ratios = {size: ratio(runs, smallest, "cpu_ms") for size, runs in found.items()}
    rows = [
        [
            f"{size:,}",
            fan_outs(size),
            figure(runs, "per_second"),
            figure(runs, "cpu_ms"),
            (ratios[size] - 1) * 100,
        ]
        for size, runs in found.items()
    ]
    largest = (max(ratios.values()) / min(ratios.values()) - 1) * 100
    rows.append(["largest deviation of any two", None, None, None, largest])
    head = ["accounts", "fan-outs", "accounts/s", "CPU ms/account", "beside the smallest, %"]
    report.table("CPU per account by size of the fleet", head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    report = Report("scale_out")
    scale(report, chosen.accounts, chosen.rounds, 0, 400)
    scale(report, chosen.accounts, chosen.rounds, 50, 25)
    one_process(report, chosen.accounts, chosen.rounds)
    sizes(report, [int(size) for size in chosen.sizes.split(",")], chosen.rounds)


if __name__ == "__main__":
    main()
