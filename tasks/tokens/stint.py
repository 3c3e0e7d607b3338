"""A stint: one worker process claims, exchanges and completes until nothing is due or time is up.

Claims overlap with calls in flight, so that no batch's tail leaves the others idle.
"""

import asyncio
import math
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from ...config.logs import log
from ...config.settings import Settings
from ..dintero.errors import Blame, DinteroError, RefusedError, ThrottledError, UnreachableError
from .blame import verdict_on
from .cancellation import heed_cancellation
from .circuit import CircuitOpenError
from .errors import SealError
from .exchanger import Exchanger
from .lanes import Lane
from .limiter import Limiter, keep_appointment
from .prober import Prober
from .record import TokenRecord
from .renewal import attempt_limit_seconds, unchanged_due_ms
from .store import Claim, Claimed, Failure

_FLUSH_AFTER_SECONDS = 0.05
_TELLING_FAILURES = 20  # of the upstream: so many open a circuit, before more calls are made
_AHEAD_SECONDS = 0.05  # for which accounts are claimed ahead; later, their permits would be missed
_LOOK_AGAIN_SECONDS = 0.5  # while calls hang, others may become due


@dataclass(slots=True)
class Tally:
    """What a stint did."""

    exchanged: int = 0
    unchanged: int = 0  # of them, the answer was the token that is held already
    shortened: int = 0  # of them, the new token lives no longer than the one before
    lost: int = 0  # exchanged, but the claim had passed to somebody else
    quarantined: int = 0
    failed: Counter[str] = field(default_factory=Counter)


class Stint:
    """One go at a partner's due accounts of a lane. `on_ended` is told of runs that ended."""

    def __init__(
        self,
        lane: Lane,
        exchanger: Exchanger,
        prober: Prober,
        limiter: Limiter,
        settings: Settings,
        on_ended: Callable[[tuple[str, ...]], Awaitable[None]],
        stopping: asyncio.Event | None = None,
    ) -> None:
        self._lane: Lane = lane
        self._store = exchanger.store
        self._exchanger = exchanger
        self._circuit = exchanger.circuit
        self._prober = prober
        self._limiter = limiter
        self._settings = settings
        self._on_ended = on_ended
        self._stopping = stopping or asyncio.Event()
        self._ready: deque[tuple[float, Claimed, int]] = deque()  # claimed, but all slots are taken
        self._calls: dict[asyncio.Task[None], tuple[str, int]] = {}
        self._ended_calls = 0
        self._awaited_calls = 0  # once no more are under way, there is progress
        self._records: list[TokenRecord] = []
        self._unchanged: set[str] = set()
        self._failures: list[Failure] = []
        self._spared: list[tuple[str, int]] = []  # neither served nor failed: nobody may call
        self._flushes: set[asyncio.Task[None]] = set()
        self._flush_timer: asyncio.TimerHandle | None = None
        self._progress = asyncio.Event()
        self.tally = Tally()

    async def run(self) -> Tally:
        """Work until nothing is due or may be done, the deadline, or `stopping`.

        Calls under way are finished: Dintero has counted them. Cancelled, it hands its claims back.

        Raises ThrottledError if the partner's own token cannot be had for now, redis.RedisError
        if the store fails; the leases then bring the accounts back.
        """
        ends_at = asyncio.get_running_loop().time() + self._settings.batch_deadline_seconds
        try:
            await self._claim_until(ends_at)
            self._spare_ready()
            while self._calls:
                heed_cancellation()
                await self._until_calls(0)
        finally:
            await self._finish()
        return self.tally

    async def _claim_until(self, ends_at: float) -> None:
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        settings, partner_token = self._settings, self._exchanger.partner_token
        while (left := ends_at - loop.time()) > 0 and not self._stopping.is_set():
            self._raise_failed_flush()
            heed_cancellation()
            ahead = self._ends_soon(loop.time() - began_at)
            most = settings.concurrency + ahead
            room = most - len(self._calls) - len(self._ready)
            least_room = math.ceil(max(settings.concurrency / 4, ahead / 2))
            if room < least_room:
                await self._until_calls(most - least_room)
                continue
            with suppress(CircuitOpenError):  # the claim says what is to be done then
                await partner_token.get()
            claim = await self._claim(min(room, settings.batch_size))
            if claim.probe_for:
                await self._prober.try_again(claim.probe_for)
                continue
            if claim.is_barred:
                return
            partner_token.note_refused(claim.refused)
            if self._circuit.note_closed():
                partner_token.forget()
            for claimed, instant in zip(
                claim.accounts, claim.schedule.instants(loop.time()), strict=True
            ):
                self._limiter.metrics.note_wait(self._lane, instant - loop.time())
                self._ready.append((instant, claimed, claim.generation))
            self._fill_slots()
            if claim.accounts:
                continue
            if claim.schedule.wait_us:
                self._limiter.metrics.note_wait(self._lane, claim.schedule.wait_seconds)
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(claim.schedule.wait_seconds, left)):
                        await self._stopping.wait()
            elif self._calls:
                await self._until_calls(len(self._calls) * 3 // 4, within=_LOOK_AGAIN_SECONDS)
            else:
                return

    def _ends_soon(self, elapsed_seconds: float) -> int:
        """How many calls will end soon, going by those that have; others are claimed for them."""
        ended = self._ended_calls * _AHEAD_SECONDS / max(elapsed_seconds, _AHEAD_SECONDS)
        return min(int(ended), max(self._settings.concurrency, self._settings.batch_size))

    def _fill_slots(self) -> None:
        while self._ready and len(self._calls) < self._settings.concurrency:
            instant, claimed, generation = self._ready.popleft()
            call = asyncio.create_task(self._exchange_at(instant, claimed, generation))
            self._calls[call] = (claimed.account_id, generation)
            call.add_done_callback(self._call_ended)

    def _spare_ready(self) -> None:
        while self._ready:
            _, claimed, generation = self._ready.popleft()
            self._spared.append((claimed.account_id, generation))

    async def _claim(self, most: int) -> Claim:
        """Cancelled in the middle, it waits for what Redis gave, to hand it back."""
        claiming = asyncio.create_task(
            self._store.claim(most, self._settings.lease_seconds, self._limiter.rate, self._lane)
        )
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            claim = await claiming
            self._spared += [(one.account_id, claim.generation) for one in claim.accounts]
            raise

    async def _exchange_at(self, instant: float, claimed: Claimed, generation: int) -> None:
        try:
            if not await keep_appointment(instant):
                await self._limiter.permit()
            self._circuit.check()
            record = await self._exchange(claimed, generation)
            await self._keep(record, claimed)
        except CircuitOpenError:
            self._spared.append((claimed.account_id, generation))
        except DinteroError as error:
            await self._judge(error, claimed, generation)
        # Nothing was awaited since it was appended: each first one sets the timer for all.
        waiting, failures = len(self._records) + len(self._failures), self._failures
        is_outage = len(failures) >= _TELLING_FAILURES and failures[-1].is_upstreams
        if waiting >= self._settings.batch_size or is_outage:
            self._flush_soon()
        elif waiting == 1:
            loop = asyncio.get_running_loop()
            self._flush_timer = loop.call_later(_FLUSH_AFTER_SECONDS, self._flush_soon)

    async def _exchange(self, claimed: Claimed, generation: int) -> TokenRecord:
        cadence = self._exchanger.cadence
        limit = attempt_limit_seconds(
            claimed.expires_ms,
            self._store.now_ms(),
            cadence,
            is_retry=claimed.past.attempts > 0,
        )
        exchange = self._exchanger.exchange(claimed.account_id, generation, self._limiter)
        if limit >= cadence.attempt_seconds:
            return await exchange  # each call has its own time limit
        try:
            async with asyncio.timeout(limit):
                return await exchange
        except TimeoutError:
            detail = f"no answer within {limit:.1f} s, as the token to renew lives no longer"
            raise UnreachableError("exchange", detail) from None

    async def _keep(self, record: TokenRecord, claimed: Claimed) -> None:
        """The same token again lives no longer than is known, whatever its answer claims."""
        now_ms, known_ms = self._store.now_ms(), claimed.expires_ms
        is_same = self._store.sealer.is_of(claimed.fingerprint, record.access_token)
        if known_ms > now_ms and is_same:
            end_ms = min(known_ms, record.expires_ms)
            due_ms = unchanged_due_ms(end_ms, now_ms, self._exchanger.cadence)
            record = replace(record, renew_ms=due_ms, expires_ms=end_ms)
            if await self._is_held(record.account_id):
                self._unchanged.add(record.account_id)
            self.tally.unchanged += 1
        elif record.expires_ms <= known_ms:
            self.tally.shortened += 1
        self._records.append(record)
        log.debug(
            "account.exchanged",
            account_id=record.account_id,
            generation=record.generation,
            expires_ms=record.expires_ms,
        )

    async def _is_held(self, account_id: str) -> bool:
        with suppress(SealError):
            return await self._store.load(account_id) is not None
        return False  # it was tampered with: the same token is sealed anew

    async def _judge(self, error: DinteroError, claimed: Claimed, generation: int) -> None:
        if error.blame in {Blame.ACCOUNT, Blame.CREDENTIAL}:
            try:
                await self._prober.blame_account(error)
            except CircuitOpenError:
                self._spared.append((claimed.account_id, generation))
                return
        if error.blame is Blame.CREDENTIAL:  # not ours, as others were served with it
            error = RefusedError(error.call, error.detail, status=error.status)
        if isinstance(error, ThrottledError):
            await self._limiter.pause(error.retry_after_seconds, str(error))
        now_ms = self._store.now_ms()
        verdict = verdict_on(
            error,
            claimed.past,
            random.random(),  # noqa: S311 - jitter
            quarantine_after=self._settings.quarantine_after,
            life_left_seconds=(claimed.expires_ms - now_ms) / 1000,
        )
        self._failures.append(
            Failure(
                claimed.account_id,
                generation,
                now_ms + int(verdict.delay_seconds * 1000),
                verdict.reason,
                verdict.is_final,
                verdict.repeats,
                verdict.is_quarantined,
                is_upstreams=error.blame is Blame.UPSTREAM
                and not isinstance(error, ThrottledError),
            )
        )
        self.tally.quarantined += verdict.is_quarantined
        log.debug(
            "account.failed",
            account_id=claimed.account_id,
            reason=verdict.reason,
            blame=str(error.blame),
            error=str(error),
            retry_in_seconds=round(verdict.delay_seconds, 1),
        )

    def _call_ended(self, call: asyncio.Task[None]) -> None:
        claimed = self._calls.pop(call)
        self._ended_calls += 1
        self._fill_slots()
        if len(self._calls) + len(self._ready) <= self._awaited_calls:
            self._progress.set()
        if not call.cancelled() and (error := call.exception()):
            # Not one of Dintero's errors: the store, or a fault of ours. The lease brings it back.
            if not self.tally.failed["internal"]:
                log.error("accounts.abandoned", first=claimed[0], error=repr(error))
            self.tally.failed["internal"] += 1
            log.debug("account.abandoned", account_id=claimed[0], error=repr(error))

    async def _until_calls(self, most: int, *, within: float | None = None) -> None:
        """Wait until at most so many are under way or ready to be."""
        self._awaited_calls = most
        self._progress.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._progress.wait()

    def _flush_soon(self) -> None:
        if self._flush_timer:
            self._flush_timer.cancel()  # else it would cut the next batch short
        if self._records or self._failures:
            self._flushes.add(asyncio.create_task(self._flush()))

    async def _flush(self) -> None:
        records, self._records = self._records, []
        failures, self._failures = self._failures, []
        unchanged, self._unchanged = self._unchanged, set()
        ended: tuple[str, ...] = ()
        if records:
            settled = await self._store.complete(records, unchanged)
            self.tally.exchanged += settled.accounts
            self.tally.lost += len(records) - settled.accounts
            ended += settled.ended_runs
        upstreams = [one.reason for one in failures if one.is_upstreams]
        answered = len(records) + len(failures) - len(upstreams)
        await self._circuit.weigh(answered, len(upstreams), upstreams[-1] if upstreams else "")
        if failures:
            settled = await self._store.fail(failures)
            self.tally.failed.update(failure.reason for failure in failures)
            ended += settled.ended_runs
        if ended:
            await self._on_ended(ended)
        await self._limiter.metrics.write()

    def _raise_failed_flush(self) -> None:
        for flush in [flush for flush in self._flushes if flush.done()]:
            self._flushes.discard(flush)
            flush.result()

    async def _finish(self) -> None:
        """Keep what was got, and hand back what was not."""
        self._spare_ready()
        calls, claimed = list(self._calls), list(self._calls.values())
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await self._flush()
        await asyncio.gather(*self._flushes)
        await self._limiter.metrics.write(is_last=True)
        if claimed or self._spared:
            await self._store.hand_back([*claimed, *self._spared])
