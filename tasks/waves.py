"""Sending the waves of a run: one message of the user's for each account, a few at once."""

import asyncio
from collections.abc import Sequence
from typing import Any

from celery import Celery
from celery.canvas import Signature
from kombu.utils.json import loads

from ..config.queues import ACCOUNTS_QUEUE
from .fleet import Fleet

ACCOUNT_DONE = "subtokens.account_done"
FAILED = "failed"


async def send_wave(fleet: Fleet, app: Celery, run_id: str) -> None:
    """Send as many messages as may be under way. Raises redis.RedisError, OperationalError."""
    message, accounts = await fleet.runs.next_wave(run_id)
    if accounts:
        await asyncio.to_thread(_publish, app, fleet.partner.partner_id, run_id, message, accounts)
        await fleet.runs.wave_sent(run_id, accounts)


def _publish(
    app: Celery, partner_id: str, run_id: str, message: str, accounts: Sequence[str]
) -> None:
    def report(account_id: str, reason: str) -> "Signature[Any]":
        return app.signature(
            ACCOUNT_DONE,
            args=(run_id, account_id, reason),
            kwargs={"partner_id": partner_id},
            immutable=True,
            queue=ACCOUNTS_QUEUE,
        )

    for account_id in accounts:
        work = app.signature(loads(message))
        work["args"] = [account_id, *work["args"]]
        work.link(report(account_id, ""))
        work.link_error(report(account_id, FAILED))
        work.apply_async(add_to_parent=False)
