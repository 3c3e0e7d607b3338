"""Runs: which accounts somebody waits for, and the step that is parked until they have ended."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .store import TokenStore

_RELEASE_LEASE_SECONDS = 20.0
_SLICE = 1_000  # accounts per command, so that Redis is never held for long

RunState = Literal["opened", "filling", "open", "ended"]


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What became of a run: counts alone, safe as a task's result."""

    run_id: str
    partner_id: str
    accounts: int
    done: int
    failed: dict[str, int]  # by reason
    open: int  # late, once the run has ended
    ended: bool

    def meets(self, share: float) -> bool:
        """Whether at least that share of the accounts got its token."""
        return self.done >= self.accounts * share

    def as_dict(self) -> dict[str, Any]:
        """The summary as plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        parts = [f"{self.done} of {self.accounts} accounts have their token"]
        parts += [f"{count} {reason}" for reason, count in sorted(self.failed.items())]
        if self.open:
            parts.append(f"{self.open} {'late' if self.ended else 'open'}")
        return f"run {self.run_id} of partner {self.partner_id}: {', '.join(parts)}"


class Runs:
    """The runs of one partner. Methods raise redis.RedisError where Redis fails."""

    def __init__(self, store: TokenStore) -> None:
        self._store = store
        self._scripts = store.scripts
        self._keys = store.keys
        self._redis = store.redis

    async def open(self, run_id: str, timeout_seconds: float, continuation: str) -> RunState:
        """Open a run, or tell how far it is. `continuation` is published when it has ended."""
        now_ms = self._store.now_ms()
        deadline_ms = now_ms + int(timeout_seconds * 1000)
        answer = await self._scripts.run("open_run", run_id, now_ms, deadline_ms, continuation)
        state: RunState = answer.decode()
        return state

    async def request(
        self, run_id: str, account_ids: Sequence[str], *, is_retry: bool = False
    ) -> None:
        """Attach accounts to the run and make them due. May be repeated.

        Those that back off for a fault of their own have failed for the run at once; a retry
        forgets their failures and ends their quarantine.
        """
        for start in range(0, len(account_ids), _SLICE):
            chosen = account_ids[start : start + _SLICE]
            now_ms, retry = self._store.now_ms(), "1" if is_retry else "0"
            await self._scripts.run("request", run_id, now_ms, retry, *chosen)

    async def request_all(self, run_id: str, *, is_retry: bool = False) -> None:
        """Attach every enrolled account. May be repeated."""
        async for account_ids in self._store.enrolled():
            await self.request(run_id, account_ids, is_retry=is_retry)

    async def seal(self, run_id: str) -> bool:
        """Close the run to further accounts; True if that ended it."""
        return bool(await self._scripts.run("seal_run", run_id, self._store.now_ms()))

    async def summary(self, run_id: str) -> RunSummary | None:
        """Counts of a run, as they are now; None if it is unknown or was dropped after its TTL."""
        key = self._keys.run
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hmget(key(run_id), ["opened_at", "ended_at"])
            pipe.scard(key(run_id, "open"))
            pipe.scard(key(run_id, "done"))
            pipe.smembers(key(run_id, "reasons"))
            (opened, ended), waiting, done, reasons = await pipe.execute()
        if opened is None:
            return None
        failed = {
            reason.decode(): int(await self._redis.scard(key(run_id, f"failed:{reason.decode()}")))
            for reason in sorted(reasons)
        }
        accounts = waiting + done + sum(failed.values())
        partner_id = self._keys.partner_id
        return RunSummary(run_id, partner_id, accounts, done, failed, waiting, ended is not None)

    async def ripe(self) -> list[str]:
        """End the runs that are past their deadline; the ended runs that wait for release."""
        answer = await self._scripts.run("watch_runs", self._store.now_ms())
        return [run.decode() for run in answer]

    async def begin_release(self, run_id: str) -> str | None:
        """Lease the release of an ended run: its continuation to publish, or None."""
        lease_ms = int(_RELEASE_LEASE_SECONDS * 1000)
        now_ms = self._store.now_ms()
        answer = await self._scripts.run("begin_release", run_id, now_ms, lease_ms)
        return answer.decode() or None

    async def resume(self, run_id: str, *, is_redelivered: bool) -> bool:
        """Whether this delivery of an ended run's step may go on; a copy of it may not."""
        flag = "1" if is_redelivered else "0"
        lease_ms = int(_RELEASE_LEASE_SECONDS * 1000)
        now_ms = self._store.now_ms()
        return bool(await self._scripts.run("resume_run", run_id, now_ms, lease_ms, flag))

    async def confirm_release(self, run_id: str) -> None:
        """The step has returned; unconfirmed, it is sent again after the lease."""
        await self._scripts.run("confirm_release", run_id)
