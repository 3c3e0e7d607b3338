"""The fleets as they are now, read once a second however many look."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, cast

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ...config.logs import log
from ...tasks.fleet import Fleet
from ...tasks.tokens.forecast import Forecast
from ...tasks.tokens.runs import RunSummary
from ...tasks.tokens.status import FleetStatus
from ...tasks.tokens.store import text_of
from ..fleets import forecast_of, status_of
from .kept import Row, kept_metrics, last_day, quarantined

KEPT_SECONDS = 1.0
HISTORY_KEPT_SECONDS = 30.0
DEADLINE_SECONDS = 5.0
SWEPT_WITHIN_SECONDS = 10.0
_FORECAST_KEPT_SECONDS = 60.0
_FORECASTS_AT_ONCE = 5  # as each asks for the counts of 288 slots
_PARTNERS_AT_ONCE = 8
_RUNS_TOLD = 5
_UNREACHABLE = "Redis cannot be reached; check SUBTOKENS_STORE_URL"


@dataclass(frozen=True, slots=True)
class Seen:
    """One partner's fleet at an instant, or in words why it could not be read."""

    partner_id: str
    trouble: str = ""
    status: FleetStatus | None = None
    forecast: Forecast | None = None
    runs: tuple[RunSummary, ...] = ()
    quarantined: Sequence[Mapping[str, Any]] = ()  # a few of them, named
    metrics: Mapping[str, int] = field(default_factory=dict[str, int])

    def why_not_ready(self, now: float) -> str:
        """What keeps this fleet from being looked after, in words; empty if nothing does."""
        if self.status is None:
            return self.trouble
        swept_at = self.status.last_sweep_at
        age = now - swept_at.timestamp() if swept_at else None
        if age is not None and age <= SWEPT_WITHIN_SECONDS:
            return ""
        since = "yet" if age is None else f"for {age:.0f} s"
        return f"no sweep {since}; do beat and a worker of the queue subtokens.sweep run?"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "partner_id": self.partner_id,
            "trouble": self.trouble,
            "status": self.status and self.status.as_dict(),
            "forecast": self.forecast and self.forecast.as_dict(),
            "runs": [run.as_dict() for run in self.runs],
            "quarantined": list(self.quarantined),
        }


class Fleets:
    """Several partners' fleets."""

    def __init__(self, fleets: Sequence[Fleet]) -> None:
        self._fleets = fleets
        self._lock = asyncio.Lock()
        self._seen: tuple[Seen, ...] = ()
        self._read_at = self._history_read_at = float("-inf")
        self._history: dict[str, list[Row]] = {}
        self._forecasts: dict[str, tuple[float, Forecast | None]] = {}
        self._marks: dict[str, FleetStatus] = {}
        self._troubles: dict[str, str] = {}

    async def seen(self) -> tuple[Seen, ...]:
        """Every partner's fleet, as it was a second ago at most. Raises nothing of Redis."""
        async with self._lock:
            if time.monotonic() - self._read_at >= KEPT_SECONDS:
                self._seen = await self._read()
                self._read_at = time.monotonic()
            return self._seen

    async def history(self) -> dict[str, list[Row]]:
        """Every partner's last day, as it was half a minute ago at most."""
        async with self._lock:
            if time.monotonic() - self._history_read_at >= HISTORY_KEPT_SECONDS:
                self._history = await self._read_history()
                self._history_read_at = time.monotonic()
            return self._history

    async def _read_history(self) -> dict[str, list[Row]]:
        ends_at = asyncio.get_running_loop().time() + DEADLINE_SECONDS
        history: dict[str, list[Row]] = {}
        for fleet in self._fleets:
            with suppress(RedisError, TimeoutError):  # status.json tells of it
                async with asyncio.timeout_at(ends_at):
                    history[fleet.partner.partner_id] = await last_day(fleet.store)
        return history

    async def _read(self) -> tuple[Seen, ...]:
        ends_at = asyncio.get_running_loop().time() + DEADLINE_SECONDS
        places, stale = asyncio.Semaphore(_PARTNERS_AT_ONCE), self._stale_forecasts()

        async def read(fleet: Fleet) -> Seen:
            partner_id = fleet.partner.partner_id
            try:
                async with asyncio.timeout_at(ends_at), places:
                    seen = await self._read_one(fleet, with_forecast=partner_id in stale)
            except Exception as error:  # noqa: BLE001 - a scrape must end, and the others be told
                seen = Seen(partner_id, _in_words(error))
                if self._troubles.get(partner_id) != seen.trouble:  # each is news but once
                    log.warning("monitor.not_read", partner_id=partner_id, error=repr(error))
            self._troubles[partner_id] = seen.trouble
            return seen

        return tuple(await asyncio.gather(*map(read, self._fleets)))

    async def _read_one(self, fleet: Fleet, *, with_forecast: bool) -> Seen:
        partner_id, status = fleet.partner.partner_id, await status_of(fleet)
        if with_forecast:
            self._forecasts[partner_id] = (time.monotonic(), await forecast_of(fleet))
        self._marks[partner_id] = never_falling(self._marks.get(partner_id), status)
        _, forecast = self._forecasts.get(partner_id, (0, None))
        runs = await _runs(fleet) if status.open_runs else ()
        named = await quarantined(fleet.store) if status.quarantined else ()
        metrics = await kept_metrics(fleet.store)
        return Seen(partner_id, "", self._marks[partner_id], forecast, runs, named, metrics)

    def _stale_forecasts(self) -> set[str]:
        """Whose forecast is to be made anew: a few of the oldest, so that each look is short."""
        made = {fleet.partner.partner_id: float("-inf") for fleet in self._fleets}
        made |= {partner_id: made_at for partner_id, (made_at, _) in self._forecasts.items()}
        old = [id_ for id_, at in made.items() if at + _FORECAST_KEPT_SECONDS < time.monotonic()]
        return set(sorted(old, key=made.__getitem__)[:_FORECASTS_AT_ONCE])


async def _runs(fleet: Fleet) -> tuple[RunSummary, ...]:
    store = fleet.store
    ids = cast("list[bytes]", await store.redis.zrange(store.keys.runs, 0, _RUNS_TOLD - 1))
    found = [await fleet.runs.summary(text_of(run_id)) for run_id in ids]
    return tuple(run for run in found if run)


def never_falling(before: FleetStatus | None, now: FleetStatus) -> FleetStatus:
    """Hold counters where they were until they grow, as Prometheus takes a fall for a restart.

    A gap that ends while we read is in neither of the two sums that make up its seconds. Where
    the counts of attempts fall, the store began anew, and all counters with it.
    """
    if before is None or any(
        getattr(now, name) < getattr(before, name) for name in ("exchanged", "renewed", "failed")
    ):
        return now
    return replace(
        now,
        lapses=max(before.lapses, now.lapses),
        uncovered_seconds=max(before.uncovered_seconds, now.uncovered_seconds),
        onboarding_seconds=max(before.onboarding_seconds, now.onboarding_seconds),
        quarantined_seconds=max(before.quarantined_seconds, now.quarantined_seconds),
    )


def _in_words(error: Exception) -> str:
    """Why a fleet could not be read, without what the error quotes."""
    if isinstance(error, NoPermissionError):
        return "this user of Redis may not look at the fleet; see subtokens acl --role operator"
    if isinstance(error, (RedisConnectionError, RedisTimeoutError)):
        return _UNREACHABLE
    if isinstance(error, TimeoutError):
        return f"Redis did not answer within {DEADLINE_SECONDS:g} s; check SUBTOKENS_STORE_URL"
    if isinstance(error, RedisError):
        return "Redis answers with an error; what is amiss there: subtokens doctor"
    return f"it could not be read ({type(error).__name__}); see the log"
