"""Sending the waves of a run: one message of the user's for each account, a few at once."""

import asyncio
from collections.abc import Sequence
from typing import Any

from celery import Celery
from celery.canvas import Signature
from kombu.exceptions import OperationalError
from kombu.utils.json import loads
from redis.exceptions import RedisError

from ..config.ids import checked_account_id
from ..config.logs import log
from ..config.queues import ACCOUNTS_QUEUE
from .fleet import Fleet
from .tokens.errors import SealError

ACCOUNT_DONE = "subtokens.account_done"
FAILED, UNSENDABLE = "failed", "unsendable"
# A message takes two milliseconds: all that are taken together must be sent within their lease, or
# another look sends them, too.
_SLICE = 200
_MOST_SLICES = 50  # of a wave


async def send_wave(fleet: Fleet, app: Celery, run_id: str) -> None:
    """Send as many messages as may be under way. Raises redis.RedisError, OperationalError."""
    for number in range(_MOST_SLICES):
        if await _send_slice(fleet, app, run_id, is_begun=number > 0) < _SLICE:
            return


async def _send_slice(fleet: Fleet, app: Celery, run_id: str, *, is_begun: bool) -> int:
    try:
        message, accounts = await fleet.runs.next_wave(run_id, _SLICE, is_begun=is_begun)
    except SealError as error:  # another worker may hold the key; else the run ends by its deadline
        log.error("run.refused", run_id=run_id, error=str(error))
        return 0
    if not accounts:
        return 0
    partner_id = fleet.partner.partner_id
    try:
        await asyncio.to_thread(_publish, app, partner_id, run_id, message, accounts)
    except (OperationalError, RedisError):  # the app's broker, or its result backend, is away
        raise
    except Exception as error:  # noqa: BLE001 - one user's message must not stop the others'
        log.error("run.not_sent", run_id=run_id, error=repr(error))
        for account_id in accounts:
            await fleet.runs.account_done(run_id, account_id, UNSENDABLE)
    else:
        await fleet.runs.wave_sent(run_id, accounts)
        log.debug("wave.sent", run_id=run_id, count=len(accounts))
    return len(accounts)


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
        work["args"] = [checked_account_id(account_id, partner_id), *work["args"]]
        work.link(report(account_id, ""))
        work.link_error(report(account_id, FAILED))
        work.apply_async(add_to_parent=False)
