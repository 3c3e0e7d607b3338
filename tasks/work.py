"""The ticket: whoever gets one works on whatever is due."""

from functools import partial
from typing import Any

from celery import Task, shared_task

from ..config.celeryconfig import EXCHANGE_QUEUE
from ..config.logs import log
from .dintero.errors import DinteroError
from .fleet import Fleet
from .runtime import runtime
from .sweep import watch
from .tickets import publish_tickets
from .tokens.stint import Stint, Tally
from .waiting import release


@shared_task(
    name="subtokens.work",
    bind=True,
    queue=EXCHANGE_QUEUE,
    acks_late=True,
    reject_on_worker_lost=True,
    ignore_result=True,
)
def work(self: "Task[Any, Any]", partner_id: str, ticket: str) -> None:
    """Claim, exchange and complete due accounts of a partner until none is due or time is up."""
    process = runtime()
    fleet = process.fleet(partner_id)
    stint = Stint(
        fleet.store,
        fleet.exchanger,
        fleet.limiter,
        fleet.rate,
        fleet.pace,
        partial(release, fleet, self.app),
    )
    try:
        tally = process.call(_held(fleet, ticket, stint))
    except DinteroError as error:
        log.error(
            "partner.unavailable",
            partner_id=partner_id,
            blame=str(error.blame),
            reason=error.reason,
            error=str(error),
        )
    else:
        if tally.exchanged or tally.failed:
            log.info(
                "accounts.exchanged",
                partner_id=partner_id,
                exchanged=tally.exchanged,
                failed=dict(tally.failed),
                lost=tally.lost,
                refresh_tokens_dropped=fleet.exchanger.refresh_tokens_dropped,
            )
    watch(fleet, self.app)
    publish_tickets(fleet, self.app)


async def _held(fleet: Fleet, ticket: str, stint: Stint) -> Tally:
    if ticket:
        await fleet.tickets.hold(ticket)
    try:
        return await stint.run()
    finally:
        if ticket:
            await fleet.tickets.give_back(ticket)
