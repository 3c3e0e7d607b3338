"""What the due set costs at a million accounts: the store's scripts, the sweep and the reports.

    .venv/bin/python benchmarks/due_set.py [--accounts 1000000]   (100,000 or more)

Only the clock is pushed. `in Redis`: how long the longest command of a call kept the server busy.
"""

import argparse
import asyncio
import os
import random
import time
from statistics import median, quantiles

from places import pin

from subtokens.tasks.fleet import open_store
from subtokens.tasks.tokens.coming_day import fleet_forecast
from subtokens.tasks.tokens.keys import PartnerKeys
from subtokens.tasks.tokens.limiter import Rate
from subtokens.tasks.tokens.record import Kind, TokenRecord
from subtokens.tasks.tokens.renewal import Cadence
from subtokens.tasks.tokens.sealing import Sealer
from subtokens.tasks.tokens.status import fleet_status
from subtokens.tasks.tokens.store import Failure, TokenStore
from subtokens.tasks.tokens.tickets import Tickets
from subtokens.workers.private_redis import PrivateRedis

HOUR = 3_600_000
SIZES = [1000] * 40 + [100] * 40


class Bench:
    def __init__(self, url: str, accounts: int) -> None:
        self.redis, self.calls = open_store(url), {}
        self.start = self.now = time.time_ns() // 1_000_000
        keys, sealer = PartnerKeys("subtokens", "T11200000"), Sealer("T11200000", {"b": bytes(32)})
        self.store = TokenStore(self.redis, keys, sealer, lambda: self.now / 1000)
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
            times = now, self.first_due.pop(i, now + 2 * HOUR), expires
            records.append(TokenRecord(i, i.ljust(800, "x"), Kind.EXCHANGE, generation, *times))
        await self.timed(f"complete {count:,}, {what}", self.store.complete(records))

    async def report(self, what: str) -> None:
        for _ in range(3):
            await self.timed(f"fleet_status, {what}", fleet_status(self.store, 100))
            forecast = fleet_forecast(self.store, 100, 2, Cadence(10))
            await self.timed(f"fleet_forecast, {what}", forecast)

    async def fill(self):
        for start in range(0, len(self.ids), 1000):
            await self.store.enrol([(i, "") for i in self.ids[start : start + 1000]], "imported")
        yield "no token yet"
        for size in [100] * 40 + [1000] * (len(self.ids) // 1000 - 4):
            await self.renew(size, "exchange", "exchange lane")
        yield "idle"

    async def measure(self) -> None:
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
            generation, ids = await self.claim(100, "renew", "all due")
            fails = [Failure(i, generation, self.now + 30_000, "x", is_final=False) for i in ids]
            await self.timed("fail 100", self.store.fail(fails))
        for _ in range(40):
            generation, ids = await self.claim(1000, "renew", "4,000 backing off first")
            await self.store.hand_back([(i, generation) for i in ids])
        self.now = self.start + 24 * HOUR
        await self.report("all expired")


async def main(it: Bench) -> None:
    print(f"Redis {(await it.redis.info('server'))['redis_version']}, {len(it.ids):,} accounts")
    await it.redis.config_set("slowlog-log-slower-than", 50)
    since = time.perf_counter()
    async for state in it.fill():
        seconds = time.perf_counter() - since
        used = (await it.redis.info("memory"))["used_memory"] / len(it.ids)
        print(f"{state} after {seconds:.1f} s, {used:,.0f} bytes per account", flush=True)
        await it.report(state)
        since = time.perf_counter()
    await it.measure()
    print(f"\n{'milliseconds':44} calls   median      p95  in Redis")
    for name, calls in it.calls.items():
        taken, in_redis = ([call[part] for call in calls] for part in (0, 1))
        p95 = quantiles(taken, n=20, method="inclusive")[-1]
        print(f"{name:44} {len(calls):5} {median(taken):8.2f} {p95:8.2f}  {median(in_redis):8.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--accounts", type=int, default=1_000_000)
    os.sched_setaffinity(0, {0})
    with PrivateRedis() as redis:
        pin(redis.pid, 1)
        asyncio.run(main(Bench(redis.url(), parser.parse_args().accounts)))
