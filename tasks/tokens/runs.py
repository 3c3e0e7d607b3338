"""Runs: which accounts somebody waits for, and the step that is parked until they have ended."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

from .store import TokenStore, number_of, text_of

# From the sending of an ended run's step until it resumes, and from there until it has returned.
# Short, as who holds one may be killed: the step is sent again, and a copy of it goes no further.
_RELEASE_LEASE_SECONDS, _RESUME_LEASE_SECONDS = 2.0, 2.5
_WAVE_LEASE_SECONDS = 5.0
# From when until when after its run's end a step that has not returned is given way to: sooner it
# may yet come by itself, and later there seems to be nobody who takes it.
_KEPT_WAITING_SECONDS, _NOBODY_TAKES_IT_SECONDS = 0.5, 30.0
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
    is_whole: bool = True  # all of its accounts were attached before its deadline

    def meets(self, share: float) -> bool:
        """Whether at least that share of the accounts got its token."""
        return self.is_whole and self.done >= self.accounts * share

    def as_dict(self) -> dict[str, Any]:
        """The summary as plain data for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "is_whole"}

    def __str__(self) -> str:
        return self.told("have their token")

    def told(self, what_is_done: str) -> str:
        """The counts in words."""
        parts = [f"{self.done} of {self.accounts} accounts {what_is_done}"]
        parts += [f"{count} {reason}" for reason, count in sorted(self.failed.items())]
        if self.open:
            parts.append(f"{self.open} {'late' if self.ended else 'open'}")
        if self.ended and not self.is_whole:
            parts.append("and its deadline came before all accounts were looked at")
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
        signed = continuation and self._sign(run_id, "continuation", continuation)
        answer = await self._scripts.run("open_run", run_id, now_ms, deadline_ms, signed)
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
            now_ms = self._store.now_ms()
            await self._scripts.run("request", run_id, now_ms, int(is_retry), *chosen)

    async def request_all(self, run_id: str, *, is_retry: bool = False) -> None:
        """Attach every enrolled account. May be repeated."""
        async for account_ids in self._store.enrolled():
            await self.request(run_id, account_ids, is_retry=is_retry)

    async def seal(self, run_id: str, *, is_learning: bool = False) -> bool:
        """Close the run to further accounts, or for now; True if it has ended by that or before."""
        now_ms = self._store.now_ms()
        return bool(await self._scripts.run("seal_run", run_id, now_ms, int(is_learning)))

    async def learning(self, run_id: str) -> str:
        """Tell "now" while a run is closed until its first accounts are done, "done" afterwards."""
        found = cast("bytes | None", await self._redis.hget(self._keys.run(run_id), "learning"))
        return (found or b"").decode()

    async def reopen(self, run_id: str) -> bool:
        """Take a run up again that was closed for now; False if its deadline has passed."""
        return bool(await self._scripts.run("reopen_run", run_id, self._store.now_ms()))

    async def summary(self, run_id: str) -> RunSummary | None:
        """Counts of a run, as they are now; None if it is unknown or was dropped after its TTL."""
        key = self._keys.run
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hmget(key(run_id), ["opened_at", "ended_at", "filling"])
            pipe.scard(key(run_id, "open"))
            pipe.scard(key(run_id, "done"))
            pipe.smembers(key(run_id, "reasons"))
            (opened, ended, filling), waiting, done, reasons = await pipe.execute()
        if opened is None:
            return None
        failed = {
            reason: int(await self._redis.scard(key(run_id, f"failed:{reason}")))
            for reason in sorted(map(text_of, reasons))
        }
        accounts = waiting + done + sum(failed.values())
        partner_id = self._keys.partner_id
        return RunSummary(
            run_id,
            partner_id,
            accounts,
            done,
            failed,
            waiting,
            ended is not None,
            is_whole=filling == b"0",
        )

    async def enlist(self, run_id: str, account_ids: Sequence[str], reason: str = "") -> None:
        """Put accounts into a run of waves; with `reason`, as failed. May be repeated."""
        for start in range(0, len(account_ids), _SLICE):
            chosen = account_ids[start : start + _SLICE]
            await self._scripts.run("enlist", run_id, self._store.now_ms(), reason, *chosen)

    async def keep_message(self, run_id: str, message: str, at_once: int) -> None:
        """Keep what a run of waves sends for each account, and to how many at once."""
        signed = self._sign(run_id, "message", message)
        await self._scripts.run("keep_message", run_id, signed, at_once)

    async def next_wave(
        self, run_id: str, most: int, *, is_begun: bool = False
    ) -> tuple[str, list[str]]:
        """Take up to `most` accounts that may be sent now, and the message to send for each.

        `is_begun`: these belong to the wave of the call before. Raises SealError where the message
        is none of ours.
        """
        lease_ms, now_ms = int(_WAVE_LEASE_SECONDS * 1000), self._store.now_ms()
        message, *accounts = await self._scripts.run(
            "next_wave", run_id, now_ms, lease_ms, most, int(is_begun)
        )
        taken = [account.decode() for account in accounts]
        return self._verified(run_id, "message", message) if taken else "", taken

    async def wave_sent(self, run_id: str, account_ids: Sequence[str]) -> None:
        """They are with the broker; unconfirmed, they are sent again after the lease."""
        await self._scripts.run("wave_sent", run_id, *account_ids)

    async def account_done(
        self, run_id: str, account_id: str, reason: str
    ) -> tuple[bool, list[str]]:
        """One account of a run of waves is done, or failed for `reason`.

        Returns whether others still wait to be sent, and the runs that have ended by it.
        """
        now_ms = self._store.now_ms()
        more, *ended = await self._scripts.run("account_done", run_id, now_ms, account_id, reason)
        return more == b"1", [run.decode() for run in ended]

    async def ripe(self) -> list[str]:
        """End the runs that are past their deadline; the ended runs that wait for release."""
        answer = await self._scripts.run("watch_runs", self._store.now_ms())
        return [run.decode() for run in answer]

    async def is_kept_waiting(self) -> bool:
        """Whether a run should have ended or has, and its step has not come to return since."""
        now_ms = self._store.now_ms()
        until_ms = now_ms + int(max(_RELEASE_LEASE_SECONDS, _RESUME_LEASE_SECONDS) * 1000)
        ripe = cast(
            "list[bytes]",
            await self._redis.zrange(self._keys.runs, 0, until_ms, byscore=True, offset=0, num=100),
        )
        async with self._redis.pipeline(transaction=False) as pipe:
            for run in ripe:
                pipe.hmget(self._keys.run(run.decode()), ["ended_at", "deadline_at"])
            kept = await pipe.execute()
        ends = [
            min(number_of(instant) for instant in found if instant) for found in kept if found[1]
        ]
        first, last = _KEPT_WAITING_SECONDS * 1000, _NOBODY_TAKES_IT_SECONDS * 1000
        return any(first <= now_ms - end_ms <= last for end_ms in ends)

    async def begin_release(self, run_id: str) -> str | None:
        """Lease the release of an ended run: its continuation to publish, or None.

        Raises SealError where that is none of ours.
        """
        lease_ms = int(_RELEASE_LEASE_SECONDS * 1000)
        now_ms = self._store.now_ms()
        answer = await self._scripts.run("begin_release", run_id, now_ms, lease_ms)
        return self._verified(run_id, "continuation", answer) if answer else None

    async def resume(self, run_id: str, *, is_redelivered: bool) -> bool:
        """Whether this delivery of an ended run's step may go on; a copy of it may not."""
        now_ms, lease_ms = self._store.now_ms(), int(_RESUME_LEASE_SECONDS * 1000)
        arguments = run_id, now_ms, lease_ms, int(is_redelivered)
        return bool(await self._scripts.run("resume_run", *arguments))

    async def confirm_release(self, run_id: str) -> None:
        """The step has returned; unconfirmed, it is sent again after the lease."""
        await self._scripts.run("confirm_release", run_id)

    def _sign(self, run_id: str, part: str, message: str) -> str:
        return self._store.sealer.sign(message, f"{self._keys.run(run_id)} {part}")

    def _verified(self, run_id: str, part: str, signed: bytes) -> str:
        place = f"{self._keys.run(run_id)} {part}"
        return self._store.sealer.verified(signed.decode(errors="replace"), place)
