"""The store: who is enrolled, whose turn it is, and the sealed tokens. Every write is a script."""

import os
import platform
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from ..dintero.errors import Blame
from .blame import Past
from .errors import SealError
from .keys import PartnerKeys
from .lanes import Lane
from .limiter import Rate, Schedule
from .record import TokenRecord
from .scripts import Scripts
from .sealing import Sealer

_LARGEST_NUMBER = 2**53  # that Lua and a score hold exactly
_SCANNED = 960  # Redis answers with a few more, which are to fit into one command of 1,000
Clock = Callable[[], float]  # epoch seconds; tests push their own


@dataclass(frozen=True, slots=True)
class Claimed:
    """One account of a claim, and what is known of it."""

    account_id: str
    expires_ms: int  # of the token that it holds; below zero where it never had one
    fingerprint: str  # of that token
    past: Past


@dataclass(frozen=True, slots=True)
class Claim:
    """Accounts that are ours until the lease ends, each with a permit for one call."""

    generation: int
    schedule: Schedule
    accounts: tuple[Claimed, ...]
    refused: int = 0  # the newest generation of the partner token that got a 401
    is_barred: bool = False  # the circuit is open
    probe_for: Blame | None = None  # and it is for us to see whether that is over


@dataclass(frozen=True, slots=True)
class Failure:
    """One claimed account that got no token, and when to try again."""

    account_id: str
    generation: int
    due_ms: int
    reason: str
    is_final: bool
    repeats: int = 1
    is_quarantined: bool = False
    is_upstreams: bool = False  # whoever was asked for would have met it


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
        self.holder = f"{platform.node() or 'unknown'}:{os.getpid()}".replace(" ", "-")

    def now_ms(self) -> int:
        """Now by the injected clock, in milliseconds since 1970."""
        return int(self.clock() * 1000)

    async def enrol(self, accounts: Iterable[tuple[str, str]], source: str) -> int:
        """Enrol (account id, display name) pairs; new ones are due at once. Returns how many.

        `source` is "imported" or "discovered": discovery leaves forgotten accounts alone.
        """
        flat = [text for pair in accounts for text in pair]
        return int(await self.scripts.run("enrol", self.now_ms(), source, *flat)) if flat else 0

    async def forget(
        self, account_ids: Sequence[str], reason: Literal["forgotten", "gone"] = "forgotten"
    ) -> Settled:
        """Drop accounts and their tokens until they are imported again.

        Those that are gone at Dintero may be discovered again; what was imported is never gone.
        """
        return _settled(await self.scripts.run("forget", self.now_ms(), reason, *account_ids))

    async def claim(self, limit: int, lease_seconds: float, rate: Rate, lane: Lane) -> Claim:
        """Take permits and claim as many due accounts of a lane, at most `limit`."""
        answer = await self.scripts.run(
            "claim",
            self.now_ms(),
            int(lease_seconds * 1000),
            limit,
            lane,
            self.holder,
            rate.per_second,
            rate.burst,
        )
        generation, first_us, spacing_us, wait_us, *rows = answer
        if generation == b"open":
            return Claim(0, Schedule(0, 0, 0, wait_us), (), is_barred=True)
        if generation == b"probe":
            probe_for = Blame(rows[0].decode())
            return Claim(0, Schedule(0, 0, 0, 0), (), is_barred=True, probe_for=probe_for)
        refused, *accounts = rows
        return Claim(
            int(generation),
            Schedule(len(accounts), first_us, spacing_us, wait_us),
            tuple(map(_claimed, accounts)),
            refused,
        )

    async def complete(
        self, records: Sequence[TokenRecord], unchanged: Collection[str] = ()
    ) -> Settled:
        """Seal and store tokens; one whose claim, its generation, is no longer ours is skipped.

        Each account is next due at its record's `renew_ms`. Of accounts in `unchanged` the token
        that is stored already stays.
        """
        arguments: list[str | bytes | float] = []
        for record in records:
            key = self.keys.token(record.account_id)
            sealed = b"" if record.account_id in unchanged else self.sealer.seal(record, key)
            numbers = f"{record.generation} {record.expires_ms} {record.renew_ms}"
            fingerprint = self.sealer.fingerprint(record.access_token)
            arguments += [record.account_id, f"{numbers} {fingerprint}", sealed]
        return _settled(await self.scripts.run("complete", self.now_ms(), *arguments))

    async def fail(self, failures: Sequence[Failure]) -> Settled:
        """Schedule the next attempt of claimed accounts; their old tokens stay."""
        arguments: list[str | float] = []
        for failure in failures:
            arguments += [failure.account_id, failure.generation, failure.due_ms, failure.reason]
            arguments += [failure.repeats, int(failure.is_final), int(failure.is_quarantined)]
        return _settled(await self.scripts.run("fail", self.now_ms(), *arguments))

    async def hand_back(self, claimed: Sequence[tuple[str, int]]) -> None:
        """Give up claims, (account id, generation) pairs, as if they had not been made."""
        await self.scripts.run("hand_back", *(part for pair in claimed for part in pair))

    async def reject(self, account_id: str, generation: int) -> str:
        """Report that Dintero refused that token, though it is valid by the clock.

        Returns "accepted" (the account is due at once), "late" (it is no longer the account's
        token), "known" (it was reported a minute ago or less) or "held back" (too many of the fleet
        were rejected within an hour).
        """
        answer = await self.scripts.run("reject", self.now_ms(), account_id, generation)
        return str(answer.decode())

    async def enrolled(self) -> AsyncIterator[list[str]]:
        """All enrolled account ids, page by page, in no order; one that moves may come twice."""
        cursor = 0
        while True:
            cursor, page = await self.redis.zscan(self.keys.due, cursor, count=_SCANNED)
            yield [text_of(cast("bytes", account)) for account, _ in page]
            if not cursor:
                return

    async def expiries(self, account_ids: Sequence[str]) -> dict[str, int]:
        """When each account's last token ends, ms since 1970; below zero where it had none."""
        chosen, found = list(account_ids), dict.fromkeys(account_ids, -1)
        if not chosen:
            return found
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.zmscore(self.keys.expiry, chosen)
            pipe.zmscore(self.keys.quarantine, chosen)
            for scores in await pipe.execute():
                known = zip(chosen, scores, strict=True)
                found |= {
                    account: number_of(score, -1) for account, score in known if score is not None
                }
        return found

    async def failing(self) -> list[str]:
        """The accounts whose last attempt failed, sorted."""
        accounts = cast("set[bytes]", await self.redis.smembers(self.keys.failing))
        return sorted(text_of(account) for account in accounts)

    async def load(self, account_id: str) -> TokenRecord | None:
        """The account's token, expired or not as Redis has it. Raises SealError."""
        key = self.keys.token(account_id)
        try:
            # MGET takes what is no string for missing, where GET fails.
            (sealed,) = cast("list[bytes | None]", await self.redis.mget([key]))
        except NoPermissionError:  # an operator looks at fleets, not at tokens
            raise SealError("this user of Redis may read no token") from None
        return None if sealed is None else self.sealer.open(sealed, key, account_id)


def _claimed(row: Sequence[bytes | None]) -> Claimed:
    account, expires_ms, attempts, repeats, history, fingerprint, expires_when_quarantined_ms = row
    reason = "" if not attempts else last_outcome(history or b"")
    return Claimed(
        text_of(account),
        number_of(expires_ms or expires_when_quarantined_ms, -1),
        text_of(fingerprint),
        Past(number_of(attempts), number_of(repeats), reason),
    )


def last_outcome(history: bytes) -> str:
    """What the newest attempt of an account's history came to; empty if there was none."""
    return text_of(history.split(b" ", 1)[0].partition(b":")[2])


def text_of(kept: bytes | None) -> str:
    """A text that Redis keeps, legible whatever somebody put in its place; empty for none."""
    return (kept or b"").decode(errors="replace")


def number_of(kept: bytes | str | float | None, otherwise: int = 0) -> int:
    """A number that Redis keeps; `otherwise` where there is none, or garbage in its place."""
    try:
        number = int(float(kept or otherwise))
    except (ValueError, OverflowError):
        return otherwise
    return number if abs(number) <= _LARGEST_NUMBER else otherwise


def _settled(answer: list[int | bytes]) -> Settled:
    count, *ended = answer
    return Settled(int(count), tuple(run.decode() for run in ended if isinstance(run, bytes)))
