"""What a reader costs beyond Redis and the seal: medians of single reads, one way after the other.

    python benchmarks/reader.py [--reads 10000]

`bare` is a GET by the same redis client and the opening of the seal.
"""

import argparse
import asyncio
import random
import time
from inspect import iscoroutinefunction
from statistics import median

from report import Cell, Report

from subtokens.config.settings import StoreSettings
from subtokens.tasks.tokens.async_reader import AsyncTokenReader
from subtokens.tasks.tokens.keys import PartnerKeys
from subtokens.tasks.tokens.reader import TokenReader
from subtokens.tasks.tokens.record import Kind, TokenRecord
from subtokens.tasks.tokens.sealing import Sealer
from subtokens.workers.private_redis import PrivateRedis

ACCOUNTS = [f"T112{n:05d}" for n in range(1, 101)]
BESIDE = {"uncached get": "bare", "cached get": "uncached get"}
DAY = 86_400_000


class Bench:
    def __init__(self, url: str) -> None:
        self.settings = StoreSettings(
            partner_id="T11200000", store_url=url, encryption_keys=f"k1:{'A' * 43}="
        )
        self.key = PartnerKeys("subtokens", self.settings.partner_id).token
        self.sealer = Sealer(self.settings.partner_id, self.settings.master_keys)
        now, token = time.time_ns() // 1_000_000, "CANARY." + "x" * 900
        with TokenReader(self.settings) as reader:
            for account in ACCOUNTS:
                record = TokenRecord(account, token, Kind.EXCHANGE, 1, now, now + DAY, now + DAY)
                sealed = self.sealer.seal(record, self.key(account))
                reader._redis.set(self.key(account), sealed)  # noqa: SLF001

    def ways(self, plain, cached):
        redis = plain._redis  # noqa: SLF001 - the bare way is by the very same client

        def bare(account):
            return self.sealer.open(redis.get(self.key(account)), self.key(account), account)

        async def bare_async(account):
            sealed = await redis.get(self.key(account))
            return self.sealer.open(sealed, self.key(account), account)

        chosen = bare_async if isinstance(plain, AsyncTokenReader) else bare
        return {"bare": chosen, "uncached get": plain.get, "cached get": cached.get}

    async def measure(self, kind: type, reads: int) -> list[list[Cell]]:
        readers = [kind(self.settings, cache_seconds=seconds) for seconds in (0, 3600)]
        ways = self.ways(*readers)
        taken = {name: [] for name in ways}
        for number in range(reads):
            for name in random.sample(list(ways), len(ways)):
                read, is_async = ways[name], iscoroutinefunction(ways[name])
                account, started_at = ACCOUNTS[number % len(ACCOUNTS)], time.perf_counter()
                _ = await read(account) if is_async else read(account)
                taken[name].append((time.perf_counter() - started_at) * 1e6)
        figures = {name: median(each[reads // 10 :]) for name, each in taken.items()}  # warm
        rows: list[list[Cell]] = []
        for name, figure in figures.items():
            other = BESIDE.get(name)
            rows.append([name, figure, other or "", figure / figures[other] if other else None])
        for reader in readers:
            _ = reader.close() if kind is TokenReader else await reader.aclose()
        return rows


async def main(url: str, reads: int) -> None:
    bench, report = Bench(url), Report("reader")
    for kind in (TokenReader, AsyncTokenReader):
        rows = await bench.measure(kind, reads)
        report.table(kind.__name__, ["", "µs", "beside", "ratio"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reads", type=int, default=10_000)
    with PrivateRedis() as server:
        asyncio.run(main(server.url(1), parser.parse_args().reads))
