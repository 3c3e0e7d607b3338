"""One rate limit for all workers together: permits are timed reservations in Redis."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..dintero.errors import Blame
from .circuit import CircuitOpenError
from .lanes import Lane
from .metrics import Metrics
from .scripts import Scripts

LATENESS_SECONDS = 0.1  # a permit missed by more is dropped, as sent late it would bunch up
_EARLY_SECONDS = 0.001  # a timer costs a tenth of an exchange, and nobody is harmed by so little
_LINGER_SECONDS = 0.002
_DEFAULT_PAUSE_SECONDS = 1.0  # after a 429 that does not say


@dataclass(frozen=True, slots=True)
class Rate:
    """Calls a second, and the burst that idle time saves up."""

    per_second: float

    @property
    def burst(self) -> float:
        """Permits saved while nobody calls.

        A quarter of a second's calls, less those that the allowed lateness may push into the
        same second: together they stay within a quarter.
        """
        return max(0.0, self.per_second * (0.25 - LATENESS_SECONDS) - 1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Granted permits as instants relative to the answer; if none, how long to wait."""

    granted: int
    first_us: int
    spacing_us: int
    wait_us: int

    def instants(self, received_at: float) -> list[float]:
        """When each permit may be used, on the loop's clock, which read `received_at`."""
        return [
            received_at + max(0, self.first_us + number * self.spacing_us) / 1e6
            for number in range(self.granted)
        ]

    @property
    def wait_seconds(self) -> float:
        """How long to wait before asking again."""
        return self.wait_us / 1e6


class Limiter:
    """Hands out permits of one lane inside one event loop; concurrent askers share a command.

    `holder` names this process, as its claims do: a prober may call while the circuit is open.
    While both lanes have due accounts, by `clock` (epoch seconds), each gets at most four fifths;
    the lane "first", for a call that all the others wait for, passes by what is reserved.
    """

    def __init__(
        self,
        scripts: Scripts,
        rate: Rate,
        holder: str = "",
        lane: Lane | Literal["first"] = "exchange",
        clock: Callable[[], float] = time.time,
        metrics: Metrics | None = None,
    ) -> None:
        self._scripts = scripts
        self.rate = rate
        self._holder = holder
        self._lane = lane
        self._counted_as: Lane = "renew" if lane == "first" else lane
        self._clock = clock
        self.metrics = metrics or Metrics(scripts)
        self._waiting: list[asyncio.Future[float]] = []
        self._asking: asyncio.Task[None] | None = None

    async def permit(self) -> None:
        """Wait until one call may be made. Raises CircuitOpenError, or redis.RedisError."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        while True:
            future: asyncio.Future[float] = loop.create_future()
            self._waiting.append(future)
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
            if await keep_appointment(await future):
                self.metrics.note_wait(self._counted_as, loop.time() - asked_at)
                return

    async def pause(self, seconds: float | None, reason: str) -> None:
        """Let nobody call, on any worker: for that long, or a second where that is not said."""
        await self._scripts.run("pause", int((seconds or _DEFAULT_PAUSE_SECONDS) * 1e6), reason)

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            await asyncio.sleep(_LINGER_SECONDS)
            self._waiting = [future for future in self._waiting if not future.done()]
            if not self._waiting:
                return
            rate = self.rate
            try:
                answer = await self._scripts.run(
                    "reserve",
                    self._lane,
                    int(self._clock() * 1000),
                    rate.per_second,
                    rate.burst,
                    len(self._waiting),
                    self._holder,
                )
                if answer[0] < 0:
                    raise CircuitOpenError(Blame(answer[1].decode()), answer[2].decode())  # noqa: TRY301
            except Exception as error:  # noqa: BLE001 - whatever it is, no asker may hang
                waiting, self._waiting = self._waiting, []
                for future in waiting:
                    if not future.done():
                        future.set_exception(error)
                return
            schedule = Schedule(*answer)
            for instant in schedule.instants(loop.time()):
                if self._waiting:
                    future = self._waiting.pop(0)
                    if not future.done():
                        future.set_result(instant)
            await asyncio.sleep(schedule.wait_seconds)


async def keep_appointment(instant: float) -> bool:
    """Sleep until `instant` on the loop's clock, nearly; False if it is missed by too much."""
    loop = asyncio.get_running_loop()
    delay = instant - loop.time()
    if delay > _EARLY_SECONDS:
        await asyncio.sleep(delay)
    return loop.time() - instant <= LATENESS_SECONDS
