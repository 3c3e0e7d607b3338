"""A token that Dintero refused, reported by whoever was refused."""

from typing import Any

from celery import Task, shared_task

from ..config.errors import InputError
from ..config.ids import checked_account_id
from ..config.logs import log
from ..config.queues import SWEEP_QUEUE
from .look import alarm_of_rejections, look
from .runtime import runtime


@shared_task(
    name="subtokens.reject", bind=True, queue=SWEEP_QUEUE, acks_late=True, ignore_result=False
)
def reject(
    self: "Task[Any, Any]", account_id: str, generation: int, *, partner_id: str | None = None
) -> str:
    """Have the token of that generation replaced, as Dintero refused it; it stays until then.

    Returns "accepted", "late" (another token is there already), "known" (reported a minute ago or
    less) or "held back" (a twentieth of the fleet was rejected within an hour).
    """
    process = runtime()
    fleet = process.fleet(partner_id)
    checked = checked_account_id(account_id, fleet.partner.partner_id)
    if not str(generation).isdecimal():
        raise InputError(f"generation {generation!r:.40} is none: pass that of the refused record")
    verdict = process.call(fleet.store.reject(checked, int(generation)))
    log.debug("token.rejected", account_id=checked, generation=generation, verdict=verdict)
    if verdict == "held back":
        alarm_of_rejections(fleet, 1)
    process.call(look(fleet, self.app))
    return verdict
