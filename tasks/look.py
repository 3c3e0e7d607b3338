"""One look at a fleet: publish the tickets that are missing, release the runs that have ended."""

import asyncio
from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from kombu.utils.json import loads
from redis.exceptions import RedisError

from ..config.logs import log
from ..config.queues import ACCOUNTS_QUEUE, EXCHANGE_QUEUE, RENEW_QUEUE
from .fleet import Fleet
from .tokens.errors import SealError
from .tokens.lanes import Lane
from .tokens.tickets import Outlook
from .waves import send_wave

WORK = "subtokens.work"
DISCOVER = "subtokens.discover"
DISCOVERY_LEASE_SECONDS = 60.0  # without a sign of life by then, a discovery is sent again
_QUEUES: dict[Lane, str] = {"renew": RENEW_QUEUE, "exchange": EXCHANGE_QUEUE}


async def look(fleet: Fleet, app: Celery, *, is_sweep: bool = False, beat: str = "") -> None:
    """See to it that what is due is worked on. Raises redis.RedisError, OperationalError."""
    lease_seconds = DISCOVERY_LEASE_SECONDS if fleet.settings.discovery_interval_seconds else 0.0
    outlook = await fleet.tickets.look(
        is_sweep=is_sweep, beat=beat, discovery_lease_seconds=lease_seconds
    )
    if outlook.asks_for_messages:
        try:
            await asyncio.to_thread(_publish, fleet, app, outlook)
        except OperationalError:  # the next look offers them anew, not only when they lapse
            for lane, tickets in outlook.tickets.items():
                for ticket in tickets:
                    await fleet.tickets.give_back(lane, ticket)
            raise
        log.debug(
            "tickets.published",
            partner_id=fleet.partner.partner_id,
            **{lane: len(tickets) for lane, tickets in outlook.tickets.items()},
            discovery=outlook.is_discovery_due,
        )
    for run_id in outlook.waves:
        await send_wave(fleet, app, run_id)
    await release(fleet, app, outlook.ripe_runs)
    if outlook.rejections_held_back:
        alarm_of_rejections(fleet, outlook.rejections_held_back)


def alarm_of_rejections(fleet: Fleet, held_back: int) -> None:
    """Say that more tokens are rejected than can be the tokens' fault."""
    log.error(
        "rejections.held_back",
        partner_id=fleet.partner.partner_id,
        count=held_back,
        remedy="a twentieth of the fleet's tokens were rejected within an hour: look at the job "
        "that reports them; if the tokens are to blame: subtokens exchange --all",
    )


async def release(fleet: Fleet, app: Celery, run_ids: Sequence[str]) -> None:
    """Send the parked steps of ended runs; until one has returned, the next look sends it again."""
    for run_id in run_ids:
        try:
            continuation = await fleet.runs.begin_release(run_id)
        except SealError as error:  # another worker may hold the key
            log.error("run.refused", run_id=run_id, error=str(error))
            continue
        try:
            if continuation:
                step = app.signature(loads(continuation))
                await asyncio.to_thread(step.apply_async, add_to_parent=False)
                log.info("run.released", run_id=run_id, step=step.task)
        except (OperationalError, RedisError) as error:  # the app's broker, or its result backend
            # A later look sends it once that is back.
            log.warning("run.release_failed", run_id=run_id, error=repr(error))
        except Exception as error:  # noqa: BLE001 - one step's message must not stop the others'
            log.error("run.not_sent", run_id=run_id, error=repr(error))
            await fleet.runs.confirm_release(run_id)


def _publish(fleet: Fleet, app: Celery, outlook: Outlook) -> None:
    for lane, tickets in outlook.tickets.items():
        for ticket in tickets:
            _send_ticket(app, fleet, lane, ticket)
    if outlook.follow_up_seconds:
        _send_ticket(app, fleet, "exchange", "", countdown=outlook.follow_up_seconds)
    if outlook.is_discovery_due:
        partner = {"partner_id": fleet.partner.partner_id}
        app.send_task(
            DISCOVER,
            kwargs=partner,
            queue=ACCOUNTS_QUEUE,
            expires=DISCOVERY_LEASE_SECONDS,
            ignore_result=True,
        )


def _send_ticket(app: Celery, fleet: Fleet, lane: Lane, ticket: str, **options: Any) -> None:  # noqa: ANN401
    app.send_task(
        WORK,
        (fleet.partner.partner_id, ticket, lane),
        queue=_QUEUES[lane],
        soft_time_limit=int(fleet.settings.soft_limit_seconds),
        time_limit=int(fleet.settings.hard_limit_seconds),
        ignore_result=True,
        **options,
    )
