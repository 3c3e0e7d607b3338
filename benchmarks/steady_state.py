"""A fleet that has been kept for long: what keeping it costs, minute by minute.

    python benchmarks/steady_state.py [--accounts 100000] [--per-second 100] [--minutes 10]

The lifetime of tokens follows from the accounts and from how many renewals a second they need.
"""

import argparse
import math
import os
import random
import time
from dataclasses import dataclass

from places import Place, cpu_seconds, resident_megabytes
from report import Report

from subtokens.config.queues import RENEWER_QUEUES, WORKER_QUEUES
from subtokens.tasks.runtime import forget_runtime, runtime
from subtokens.tasks.tokens.limiter import Rate
from subtokens.tasks.tokens.record import Kind, TokenRecord
from subtokens.tasks.tokens.renewal import Cadence, even_places, window
from subtokens.tasks.tokens.status import FleetStatus, fleet_status

SAMPLE_SECONDS = 10
CELERY = ("celery", "--quiet", "-A", "subtokens.workers")
WORKER = ("--concurrency=2", "--loglevel=WARNING", "--without-mingle", "--without-gossip")
CALL_TIMEOUT_SECONDS = 10


def instants(accounts: int, lifetime: float) -> list[tuple[float, float]]:
    """For each account of a steady fleet, when its token was issued and is due, in seconds.

    Zero is now. Renewals are due evenly until the window of the newest tokens opens; beyond it
    there are fewer, as whoever is due so late must have been given a late place in the window.
    """
    opens, closes = window(lifetime, Cadence(CALL_TIMEOUT_SECONDS))
    mean, width, found = (opens + closes) / 2, closes - opens, []
    for number, place in zip(range(accounts), even_places(0.0), strict=False):
        left = 1 - (number + 0.5) / accounts  # of the accounts, those that are due later
        due = (1 - left) * mean
        if due > opens:
            due = closes - math.sqrt(2 * mean * width * left)
        shortest = max(due, opens)
        found.append((due - shortest - place * (closes - shortest), due))
    random.shuffle(found)
    return found


def place_fleet(ids: list[str], lifetime: float, begins_at: float) -> None:
    """Complete records through the store, none of them due before `begins_at`."""
    process = runtime()
    store = process.fleet().store
    placed = iter(instants(len(ids), lifetime))

    async def fill() -> None:
        for start in range(0, len(ids), 1000):
            page = ids[start : start + 1000]
            await store.enrol([(one, "") for one in page], "imported")
            claim = await store.claim(len(page), 60, Rate(1_000_000), "exchange")
            assert len(claim.accounts) == len(page), claim.schedule
            records = []
            for claimed in claim.accounts:
                issued, due = next(placed)
                issued_ms, renew_ms, expires_ms = (
                    int((begins_at + seconds) * 1000)
                    for seconds in (issued, due, issued + lifetime)
                )
                i, token = claimed.account_id, claimed.account_id.ljust(800, "x")
                times = issued_ms, renew_ms, expires_ms
                records.append(TokenRecord(i, token, Kind.EXCHANGE, claim.generation, *times))
            await store.complete(records)

    process.call(fill())


@dataclass(frozen=True)
class Sample:
    """The fleet and what its processes have spent, at one instant."""

    at: float
    status: FleetStatus
    cpu_seconds: float
    redis_cpu_seconds: float
    megabytes: float
    redis_megabytes: float


class Deployment:
    """Workers and beat, as `subtokens up` starts them."""

    def __init__(self, place: Place) -> None:
        self._place = place
        queues = {"renewer": RENEWER_QUEUES, "worker": WORKER_QUEUES}
        self._crew = [
            place.start(
                name, *CELERY, "worker", f"--hostname={name}@bench", "-Q", ",".join(q), *WORKER
            )
            for name, q in queues.items()
        ]
        self._crew.append(place.start("beat", *CELERY, "beat", "--loglevel=WARNING"))

    def sample(self) -> Sample:
        process = runtime()
        groups = [child.pid for child in self._crew]
        assert all(child.is_alive for child in self._crew), [one.said() for one in self._crew]
        return Sample(
            time.perf_counter(),
            process.call(fleet_status(process.fleet().store, 1000)),
            sum(map(cpu_seconds, groups)),
            cpu_seconds(self._place.redis.pid),
            sum(map(resident_megabytes, groups)),
            self._place.store.info("memory")["used_memory"] / 2**20,
        )


def watch(deployment: Deployment, seconds: float) -> list[Sample]:
    samples = [deployment.sample()]
    for number in range(1, max(1, round(seconds / SAMPLE_SECONDS)) + 1):
        time.sleep(max(0.0, samples[0].at + number * SAMPLE_SECONDS - time.perf_counter()))
        samples.append(deployment.sample())
        status = samples[-1].status
        print(
            f"{samples[-1].at - samples[0].at:.0f} s: {status.renewed:,} renewed, "
            f"{status.expired} expired, {samples[-1].megabytes:.0f} MB",
            flush=True,
        )
    return samples


def share(now: Sample, before: Sample, name: str) -> float:
    """CPU between two samples, in % of one core."""
    return (getattr(now, name) - getattr(before, name)) / (now.at - before.at) * 100


def renewals(now: Sample, before: Sample) -> float:
    return (now.status.renewed - before.status.renewed) / (now.at - before.at)


def oldest_due(samples: list[Sample]) -> float:
    return max(sample.status.oldest_due_seconds_by_lane["renew"] for sample in samples)


def tell(samples: list[Sample], needed: float) -> None:
    report = Report("steady_state")
    step = 60 // SAMPLE_SECONDS
    rows = []
    for first in range(0, len(samples) - 1, step):
        minute = samples[first : first + step + 1]
        a, b = minute[0], minute[-1]
        rows.append(
            [
                f"{first // step + 1}",
                renewals(b, a),
                share(b, a, "cpu_seconds"),
                share(b, a, "redis_cpu_seconds"),
                b.megabytes,
                b.redis_megabytes,
                oldest_due(minute),
                max(sample.status.expired for sample in minute),
            ]
        )
    head = ["minute", "renewals/s", "CPU %", "Redis' CPU %", "MB at its end", "Redis' MB"]
    report.table("by the minute", [*head, "oldest due, s", "expired"], rows)
    begin, end = samples[0], samples[-1]
    minute_one = samples[min(step, len(samples) - 1)]
    rows = [
        ["minutes", (end.at - begin.at) / 60],
        ["accounts", end.status.enrolled],
        ["renewals/s that they need", needed],
        ["renewals/s", renewals(end, begin)],
        ["uncovered account-seconds", end.status.uncovered_seconds],
        ["lapses", end.status.lapses],
        ["failed attempts", end.status.failed],
        ["oldest due renewal of all samples, s", oldest_due(samples)],
        ["CPU of all our processes, % of one core", share(end, begin, "cpu_seconds")],
        ["CPU of Redis, % of one core", share(end, begin, "redis_cpu_seconds")],
        ["MB after a minute", minute_one.megabytes],
        ["MB at the end", end.megabytes],
        ["growth after the first minute, %", (end.megabytes / minute_one.megabytes - 1) * 100],
    ]
    report.table("in all", ["", "measured"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--per-second", type=float, default=100.0)
    parser.add_argument("--minutes", type=float, default=10.0)
    chosen = parser.parse_args()
    lifetime = round(chosen.accounts / chosen.per_second / 0.6)
    settings = {
        "discovery_interval_seconds": 0,
        "call_timeout_seconds": CALL_TIMEOUT_SECONDS,
        "log_level": "WARNING",
    }
    with Place(chosen.accounts, lifetime_seconds=lifetime, **settings) as place:
        os.environ.update(place.environment)
        begins_at = time.time() + 10 + chosen.accounts / 4000
        place_fleet(place.ids, lifetime, begins_at)
        deployment = Deployment(place)
        left = begins_at - time.time()
        assert left > 5, "it took too long to place the fleet"
        print(f"placed; begins in {left:.0f} s", flush=True)
        time.sleep(left)
        samples = watch(deployment, chosen.minutes * 60)
        forget_runtime()
    needed = chosen.accounts / (sum(window(lifetime, Cadence(CALL_TIMEOUT_SECONDS))) / 2)
    tell(samples, needed)


if __name__ == "__main__":
    main()
