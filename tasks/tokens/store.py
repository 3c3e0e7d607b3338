"""The store: who is enrolled, whose turn it is, and the sealed tokens. Every write is a script."""

import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from redis.asyncio import Redis

from .keys import PartnerKeys
from .limiter import Rate, Schedule
from .record import TokenRecord
from .scripts import Scripts
from .sealing import Sealer

Clock = Callable[[], float]  # epoch seconds; tests push their own


@dataclass(frozen=True, slots=True)
class Claim:
    """Accounts that are ours until the lease ends, each with a permit for one call."""

    generation: int
    schedule: Schedule
    accounts: tuple[tuple[str, int], ...]  # account id, failed attempts so far


@dataclass(frozen=True, slots=True)
class Failure:
    """One claimed account that got no token, and when to try again."""

    account_id: str
    generation: int
    due_ms: int
    reason: str
    is_final: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """What a completing script did: accounts it still owned, and runs that ended by it."""

    accounts: int
    ended_runs: tuple[str, ...]


class TokenStore:
    """Tokens and due set of one partner. Methods raise redis.RedisError where Redis fails."""

    def __init__(
        self, redis: Redis, keys: PartnerKeys, sealer: Sealer, clock: Clock = time.time
    ) -> None:
        self.redis = redis
        self.keys = keys
        self.scripts = Scripts(redis, keys)
        self.sealer = sealer
        self.clock = clock

    def now_ms(self) -> int:
        """Now by the injected clock, in milliseconds since 1970."""
        return int(self.clock() * 1000)

    async def enrol(self, accounts: Iterable[tuple[str, str]], source: str) -> int:
        """Enrol (account id, display name) pairs; new ones are due at once. Returns how many.

        `source` is "imported" or "discovered": discovery leaves forgotten accounts alone.
        """
        flat = [text for pair in accounts for text in pair]
        return int(await self.scripts.run("enrol", self.now_ms(), source, *flat)) if flat else 0

    async def forget(self, account_ids: Sequence[str]) -> Settled:
        """Drop accounts and their tokens until they are imported again."""
        return _settled(await self.scripts.run("forget", self.now_ms(), *account_ids))

    async def claim(self, limit: int, lease_seconds: float, rate: Rate) -> Claim:
        """Take permits and claim as many due accounts, at most `limit`."""
        answer = await self.scripts.run(
            "claim", self.now_ms(), int(lease_seconds * 1000), limit, rate.per_second, rate.burst
        )
        generation, first_us, spacing_us, wait_us, *rest = answer
        accounts = zip(rest[::2], rest[1::2], strict=True)
        return Claim(
            int(generation),
            Schedule(len(rest) // 2, first_us, spacing_us, wait_us),
            tuple((account.decode(), int(attempts)) for account, attempts in accounts),
        )

    async def complete(self, records: Sequence[TokenRecord]) -> Settled:
        """Seal and store tokens; one whose claim, its generation, is no longer ours is skipped."""
        arguments: list[str | bytes | float] = []
        for record in records:
            sealed = self.sealer.seal(record, self.keys.token(record.account_id))
            arguments += [record.account_id, record.generation, sealed]
            arguments += [record.expires_ms, record.renew_ms]
        return _settled(await self.scripts.run("complete", self.now_ms(), *arguments))

    async def fail(self, failures: Sequence[Failure]) -> Settled:
        """Schedule the next attempt of claimed accounts; their old tokens stay."""
        arguments: list[str | float] = []
        for failure in failures:
            final = "1" if failure.is_final else "0"
            arguments += [failure.account_id, failure.generation]
            arguments += [failure.due_ms, failure.reason, final]
        return _settled(await self.scripts.run("fail", self.now_ms(), *arguments))

    async def hand_back(self, claimed: Sequence[tuple[str, int]]) -> None:
        """Give up claims, (account id, generation) pairs, as if they had not been made."""
        await self.scripts.run("hand_back", *(part for pair in claimed for part in pair))

    async def enrolled(self) -> AsyncIterator[list[str]]:
        """All enrolled account ids, page by page, in no order; one that moves may come twice."""
        cursor = 0
        while True:
            cursor, page = await self.redis.zscan(self.keys.due, cursor, count=1_000)
            yield [cast("bytes", account).decode() for account, _ in page]
            if not cursor:
                return

    async def load(self, account_id: str) -> TokenRecord | None:
        """The account's token, expired or not as Redis has it. Raises SealError."""
        key = self.keys.token(account_id)
        sealed = cast("bytes | None", await self.redis.get(key))
        return self.sealer.open(sealed, key, account_id) if sealed else None


def _settled(answer: list[int | bytes]) -> Settled:
    count, *ended = answer
    return Settled(int(count), tuple(run.decode() for run in ended if isinstance(run, bytes)))
