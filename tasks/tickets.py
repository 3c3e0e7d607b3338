"""Publishing: the messages that bring workers to due accounts."""

from typing import Any

from celery import Celery

from ..config.celeryconfig import EXCHANGE_QUEUE
from .fleet import Fleet
from .runtime import runtime

WORK = "subtokens.work"


def publish_tickets(fleet: Fleet, app: Celery) -> int:
    """Publish the tickets that the partner's due accounts lack; returns how many."""
    missing = runtime().call(fleet.tickets.top_up())
    for ticket in missing.tickets:
        send_ticket(app, fleet, ticket)
    if missing.follow_up_seconds:
        send_ticket(app, fleet, "", countdown=missing.follow_up_seconds)
    return len(missing.tickets)


def send_ticket(app: Celery, fleet: Fleet, ticket: str, **options: Any) -> None:  # noqa: ANN401
    """Publish one ticket, with the time limits of the settings."""
    settings = runtime().settings
    app.send_task(
        WORK,
        (fleet.partner.partner_id, ticket),
        queue=EXCHANGE_QUEUE,
        soft_time_limit=int(settings.soft_limit_seconds),
        time_limit=int(settings.hard_limit_seconds),
        ignore_result=True,
        **options,
    )
