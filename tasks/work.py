"""The ticket: whoever gets one works on whatever is due in its lane."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import product
from typing import Any

from celery import Celery, Task, shared_task
from redis.exceptions import RedisError

from ..config.errors import InputError
from ..config.logs import log
from ..config.queues import EXCHANGE_QUEUE, RENEW_QUEUE, SWEEP_QUEUE
from .dintero.errors import DinteroError
from .fleet import Fleet
from .look import look, release
from .runtime import runtime
from .tokens.cancellation import heed_cancellation
from .tokens.lanes import LANES, Lane
from .tokens.stint import Tally
from .tokens.tickets import HELD_SECONDS, LONGEST_NAME

_LOOK_AT_OTHERS_SECONDS = 0.5
_LOOK_AT_STEPS_SECONDS, _GIVE_WAY_SECONDS = 0.5, 0.1


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
        raise InputError(f"lane {lane!r:.40} is neither of {', '.join(LANES)}")
    if not isinstance(ticket, str) or len(ticket) > LONGEST_NAME:
        raise InputError(f"ticket {ticket!r:.40} is none: a look gives them their names")
    process = runtime()
    fleet = process.fleet(partner_id)
    others = [process.fleet(other) for other in process.settings.partner_ids if other != partner_id]
    waits = process.call(_worked(fleet, others, self.app, ticket, lane))
    for one in dict.fromkeys((fleet, *waits)):
        process.call(look(one, self.app))


async def _worked(
    fleet: Fleet, others: Sequence[Fleet], app: Celery, ticket: str, lane: Lane
) -> Sequence[Fleet]:
    """Work until it is done, or a step needs the slot; returns the fleets of such steps.

    Tickets may hold every slot of a worker while calls hang, a pause lasts or a fleet is large; the
    sweep that ends a run and the step that waited for it would come when they are done.
    """
    fleets = (fleet, *others)
    async with _held(fleet, lane, ticket):
        if waits := await _kept_waiting(fleets, app):
            await asyncio.sleep(_GIVE_WAY_SECONDS)  # the next ticket comes at once
            return waits
        working = asyncio.create_task(_work_on(fleet, others, app, lane))
        try:
            while not (await asyncio.wait([working], timeout=_LOOK_AT_STEPS_SECONDS))[0]:
                if waits := await _kept_waiting(fleets, app):
                    return waits
        finally:
            working.cancel()  # then it hands back what it has claimed
            await asyncio.gather(working, return_exceptions=True)
        await working
        return ()


async def _kept_waiting(fleets: Sequence[Fleet], app: Celery) -> Sequence[Fleet]:
    if SWEEP_QUEUE not in app.amqp.queues.consume_from:
        return ()  # a slot of this worker is of no use to them
    with suppress(RedisError):  # the stint itself meets it, and says so
        return [fleet for fleet in fleets if await fleet.runs.is_kept_waiting()]
    return ()


async def _work_on(fleet: Fleet, others: Sequence[Fleet], app: Celery, lane: Lane) -> None:
    """Work on the ticket's partner, and meanwhile on what is due of the others.

    A partner's fan-out may hold every process for as long as a ticket lasts; the others' tickets
    would wait behind it, and so would renewals where this worker is to do them, too.
    """
    own = asyncio.create_task(_stint(fleet, app, lane))
    lanes: list[Lane] = [lane]
    if lane == "exchange" and RENEW_QUEUE in app.amqp.queues.consume_from:
        lanes.append("renew")
    everybodys = product((fleet, *others), lanes)

    async def keep_up(other: Fleet, its_lane: Lane) -> None:
        while not own.done():
            with suppress(RedisError):  # its own ticket meets it, and the sweep says so
                await _stint(other, app, its_lane)
            await asyncio.wait([own], timeout=_LOOK_AT_OTHERS_SECONDS)

    try:
        await asyncio.gather(own, *(keep_up(*one) for one in everybodys if one != (fleet, lane)))
    finally:
        if not own.cancelling():  # a second time, it would drop what it is handing back
            own.cancel()


async def _stint(fleet: Fleet, app: Celery, lane: Lane) -> None:
    await fleet.tickets.key_use.learn()  # a new process has not looked yet, and is about to seal
    try:
        tally = await fleet.stint(lane, partial(release, fleet, app)).run()
    except DinteroError as error:
        log.error(
            "work.broken_off",
            partner_id=fleet.partner.partner_id,
            blame=str(error.blame),
            reason=error.reason,
            error=str(error),
        )
    else:
        _log(fleet, lane, tally)


@asynccontextmanager
async def _held(fleet: Fleet, lane: Lane, ticket: str) -> AsyncIterator[None]:
    """The ticket is outstanding meanwhile; a killed worker's soon lapses and is replaced."""

    async def hold_on() -> None:
        while True:
            await asyncio.sleep(HELD_SECONDS / 3)
            with suppress(RedisError):  # the stint itself meets it, and says so
                await fleet.tickets.hold(lane, ticket, is_held=True)
            heed_cancellation()

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
