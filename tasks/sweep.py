"""The sweep: keeps enough tickets under way, and ends and releases runs."""

from typing import Any

from celery import Celery, Task, shared_task

from ..config.celeryconfig import SWEEP_QUEUE
from .fleet import Fleet
from .runtime import runtime
from .tickets import publish_tickets
from .waiting import release


@shared_task(name="subtokens.renew_due", bind=True, queue=SWEEP_QUEUE, ignore_result=True)
def renew_due(self: "Task[Any, Any]") -> None:
    """See to it that due accounts are worked on; celery beat sends this every second."""
    process = runtime()
    for partner in process.settings.partners:
        fleet = process.fleet(partner.partner_id)
        publish_tickets(fleet, self.app)
        watch(fleet, self.app)


@shared_task(name="subtokens.watch_runs", bind=True, queue=SWEEP_QUEUE, ignore_result=True)
def watch_runs(self: "Task[Any, Any]") -> None:
    """End the runs that are past their deadline, and release what waits for ended ones."""
    process = runtime()
    for partner in process.settings.partners:
        watch(process.fleet(partner.partner_id), self.app)


def watch(fleet: Fleet, app: Celery) -> None:
    """One look at one partner's runs."""
    call = runtime().call
    ripe = call(fleet.runs.ripe())
    if ripe:
        call(release(fleet, app, ripe))
