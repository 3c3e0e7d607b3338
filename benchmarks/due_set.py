"""What a million accounts cost in a real Redis: enrolled, claimed, completed and renewed.

    python benchmarks/due_set.py [--accounts 1000000]   (100,000 or more)

The store's scripts, the sweep and the reports, each step with its time, and the memory of it all.
Only the clock is pushed. `in Redis`: how long the longest command of a call kept the server busy.
"""

import argparse
import asyncio
import os
import random
import time
from statistics import median, quantiles

from places import pin
from report import Cell, Report

from subtokens.tasks.fleet import open_store
from subtokens.tasks.tokens.coming_day import fleet_forecast
from subtokens.tasks.tokens.keys import PartnerKeys
from subtokens.tasks.tokens.limiter import Rate
from subtokens.tasks.tokens.record import Kind, TokenRecord
from subtokens.tasks.tokens.renewal import Cadence
from subtokens.tasks.tokens.runs import Runs
from subtokens.tasks.tokens.sealing import Sealer
from subtokens.tasks.tokens.status import fleet_status
from subtokens.tasks.tokens.store import Failure, TokenStore
from subtokens.tasks.tokens.tickets import Tickets
from subtokens.workers.private_redis import PrivateRedis

HOUR = 3_600_000
SIZES = [1000] * 40 + [100] * 40
RUN = "a-run-over-all"
RENEWALS = ("just as many due", "all due", "the others")


class Bench:
    def __init__(self, url: str, accounts: int) -> None:
        self.redis, self.calls = open_store(url), {}
        self.start = self.now = time.time_ns() // 1_000_000
        keys, sealer = PartnerKeys("subtokens", "T11200000"), Sealer("T11200000", {"b": bytes(32)})
        self.store = TokenStore(self.redis, keys, sealer, lambda: self.now / 1000)
        self.runs, self.renewed = Runs(self.store), 0
        self.ids = [f"T{11_200_001 + n}" for n in range(accounts)]
        # First renewals fall between hours 2 and 4, expiries between 6 and 10, in no order of ids.
        self.due = [self.start + 2 * HOUR + 2 * HOUR * n // accounts for n in range(accounts)]
        self.first_due = dict(zip(random.sample(self.ids, accounts), self.due, strict=True))

    async def timed(self, name: str, call):
        await self.redis.slowlog_reset()
        started_at = time.perf_counter()
        answer = await call
        taken = (time.perf_counter() - started_at) * 1000
        longest = max([0, *(entry["duration"] for entry in await self.redis.slowlog_get(1000))])
        self.calls.setdefault(name, []).append((taken, longest / 1000))
        return answer

    async def claim(self, count: int, lane: str, what: str):
        call = self.store.claim(count, 600, Rate(1_000_000), lane)
        claim = await self.timed(f"claim {count:,}, {what}", call)
        assert len(claim.accounts) == count, claim.schedule
        return claim.generation, [claimed.account_id for claimed in claim.accounts]

    async def renew(self, count: int, lane: str, what: str) -> None:
        generation, ids = await self.claim(count, lane, what)
        records, now = [], self.now
        for i in ids:
            expires = now + random.randint(6 * HOUR, 10 * HOUR)
            times = now, self.first_due.pop(i, now + 12 * HOUR), expires
            records.append(TokenRecord(i, i.ljust(800, "x"), Kind.EXCHANGE, generation, *times))
        await self.timed(f"complete {count:,}, {what}", self.store.complete(records))
        self.renewed += count if lane == "renew" else 0

    async def used_memory(self) -> int:
        return (await self.redis.info("memory"))["used_memory"]

    async def report(self, what: str) -> None:
        for _ in range(3):
            await self.timed(f"fleet_status, {what}", fleet_status(self.store, 100))
            forecast = fleet_forecast(self.store, 100, 2, Cadence(10))
            await self.timed(f"fleet_forecast, {what}", forecast)

    async def fill(self):
        await self.runs.open(RUN, 48 * 3600, "")
        pages = [self.ids[start : start + 1000] for start in range(0, len(self.ids), 1000)]
        for page in pages:
            pairs = [(i, "") for i in page]
            await self.timed("enrol 1,000", self.store.enrol(pairs, "imported"))
        yield "enrolled, no token yet"
        for page in pages:
            await self.timed("attach 1,000", self.runs.request(RUN, page))
        await self.runs.seal(RUN)
        yield "and attached to a run"
        for size in [100] * 40 + [1000] * (len(self.ids) // 1000 - 4):
            await self.renew(size, "exchange", "exchange lane")
        yield "with a token of 800 bytes, recorded by the run"

    async def measure(self):
        tickets = Tickets(self.store, 100, 60)
        for _ in range(500):
            await self.timed("idle sweep", tickets.look(is_sweep=True, discovery_lease_seconds=600))
            await self.timed("bare PING", self.redis.ping())
        self.now = self.due[99_999]
        await self.report("100,000 due")
        for number, size in enumerate(SIZES, 1):
            self.now = self.due[sum(SIZES[:number]) - 1]
            await self.renew(size, "renew", "just as many due")
        self.now = self.start + 5 * HOUR
        for size in SIZES:
            await self.renew(size, "renew", "all due")
        for _ in range(40):
            generation, ids = await self.claim(100, "renew", "to fail")
            fails = [Failure(i, generation, self.now + 30_000, "x", is_final=False) for i in ids]
            await self.timed("fail 100", self.store.fail(fails))
        for _ in range(40):
            generation, ids = await self.claim(1000, "renew", "4,000 backing off first")
            await self.store.hand_back([(i, generation) for i in ids])
        self.now += 60_000  # those that backed off are due again
        while left := len(self.ids) - self.renewed:
            await self.renew(min(1000, left), "renew", "the others")
        yield "after the second token"
        self.now = self.start + 24 * HOUR
        await self.report("all expired")
        while left := 2 * len(self.ids) - self.renewed:
            await self.renew(min(1000, left), "renew", "once more")
        yield "after the third token, as from then on"

    def seconds(self, verb: str, *whats: str) -> float:
        """Of all calls of that verb: with 100 or 1,000 accounts, in one of these situations."""
        names = [f"{verb} {size:,}{what}" for size in (100, 1000) for what in whats]
        return sum(taken for name in names for taken, _ in self.calls.get(name, [])) / 1000

    def steps(self) -> list[list[Cell]]:
        """What each step took over all accounts."""
        first, renewals = [", exchange lane"], [f", {what}" for what in RENEWALS]
        whole = {
            "enrol": self.seconds("enrol", ""),
            "attach to a run": self.seconds("attach", ""),
            "claim for the first token": self.seconds("claim", *first),
            "seal and complete it": self.seconds("complete", *first),
            "claim for renewal": self.seconds("claim", *renewals),
            "seal and complete the renewal": self.seconds("complete", *renewals),
        }
        count = len(self.ids)
        return [[step, count, took, took / count * 1e6] for step, took in whole.items()]


async def main(it: Bench) -> None:
    server = await it.redis.info("server")
    print(f"Redis {server['redis_version']}, {len(it.ids):,} accounts")
    await it.redis.config_set("slowlog-log-slower-than", 50)
    empty = await it.used_memory()
    memory: list[list[Cell]] = []

    async def note(state: str) -> None:
        memory.append([state, (await it.used_memory() - empty) / len(it.ids)])
        print(f"{state}: {memory[-1][1]:,.0f} bytes per account", flush=True)

    async for state in it.fill():
        await note(state)
        await it.report(state)
    async for state in it.measure():
        await note(state)
    report = Report("due_set")
    report.table("time of each step", ["", "accounts", "s", "µs per account"], it.steps())
    report.table("memory, everything included", ["", "bytes per account"], memory)
    rows = []
    for name, calls in it.calls.items():
        taken, in_redis = ([call[part] for call in calls] for part in (0, 1))
        p95 = quantiles(taken, n=20, method="inclusive")[-1]
        rows.append([name, len(calls), median(taken), p95, median(in_redis)])
    head = ["milliseconds", "calls", "median", "95 %", "in Redis"]
    report.table("single calls", head, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accounts", type=int, default=1_000_000)
    os.sched_setaffinity(0, {0})
    with PrivateRedis() as redis:
        pin(redis.pid, 1)
        asyncio.run(main(Bench(redis.url(), parser.parse_args().accounts)))
