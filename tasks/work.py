"""The ticket: whoever gets one works on whatever is due in its lane."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from celery import Task, shared_task
from redis.exceptions import RedisError

from ..config.celeryconfig import EXCHANGE_QUEUE
from ..config.errors import InputError
from ..config.logs import log
from .dintero.errors import DinteroError
from .fleet import Fleet
from .look import look, release
from .runtime import runtime
from .tokens.lanes import LANES, Lane
from .tokens.stint import Tally
from .tokens.tickets import HELD_SECONDS


@shared_task(
    name="subtokens.work",
    bind=True,
    queue=EXCHANGE_QUEUE,
    acks_late=True,
    reject_on_worker_lost=True,
    ignore_result=True,
)
def work(self: "Task[Any, Any]", partner_id: str, ticket: str, lane: Lane = "exchange") -> None:
    """Claim, exchange and complete due accounts of a partner until none is due or time is up.

    `lane` is "renew" for what is due by the clock, "exchange" for what somebody asked for.
    """
    if lane not in LANES:
        raise InputError(f"lane {lane!r} is neither of {', '.join(LANES)}")
    process = runtime()
    fleet = process.fleet(partner_id)
    try:
        tally = process.call(_worked(fleet, self.app, ticket, lane))
    except DinteroError as error:
        log.error(
            "partner.unavailable",
            partner_id=partner_id,
            blame=str(error.blame),
            reason=error.reason,
            error=str(error),
        )
    else:
        _log(fleet, lane, tally)
    process.call(look(fleet, self.app))


async def _worked(fleet: Fleet, app: Any, ticket: str, lane: Lane) -> Tally:  # noqa: ANN401
    async with _held(fleet, lane, ticket):
        return await fleet.stint(lane, partial(release, fleet, app)).run()


@asynccontextmanager
async def _held(fleet: Fleet, lane: Lane, ticket: str) -> AsyncIterator[None]:
    """The ticket is outstanding meanwhile; a killed worker's soon lapses and is replaced."""

    async def hold_on() -> None:
        while True:
            await asyncio.sleep(HELD_SECONDS / 3)
            with suppress(RedisError):  # the stint itself meets it, and says so
                await fleet.tickets.hold(lane, ticket, is_held=True)

    if not ticket:
        yield
        return
    await fleet.tickets.hold(lane, ticket)
    holding = asyncio.create_task(hold_on())
    try:
        yield
    finally:
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        await fleet.tickets.give_back(lane, ticket)


def _log(fleet: Fleet, lane: Lane, tally: Tally) -> None:
    if not (tally.exchanged or tally.failed):
        return
    odd = ("unchanged", "shortened", "lost", "quarantined")
    log.info(
        "accounts.renewed" if lane == "renew" else "accounts.exchanged",
        partner_id=fleet.partner.partner_id,
        exchanged=tally.exchanged,
        failed=dict(tally.failed),
        refresh_tokens_dropped=fleet.exchanger.refresh_tokens_dropped,
        **{name: count for name in odd if (count := getattr(tally, name))},
    )
