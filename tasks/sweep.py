"""The sweep: sees to it that what is due is worked on, and that ended runs are released."""

from typing import Any

from celery import Celery, Task, shared_task
from redis.exceptions import RedisError

from ..config.logs import log
from ..config.queues import SWEEP_QUEUE
from .look import look
from .runtime import runtime

_COMMON: dict[str, Any] = {
    "bind": True,
    "queue": SWEEP_QUEUE,
    "ignore_result": True,
    "throws": (RedisError,),  # sweep.failed has told it; a traceback each second would tell no more
}


@shared_task(name="subtokens.renew_due", **_COMMON)
def renew_due(self: "Task[Any, Any]") -> None:
    """See to it that due accounts are worked on; celery beat sends this every second.

    Raises redis.RedisError: a store that cannot be asked is never taken for one where nothing is
    due.
    """
    _look_at_every_fleet(self.app, is_sweep=True, beat=str(self.request.origin or ""))


@shared_task(name="subtokens.watch_runs", **_COMMON)
def watch_runs(self: "Task[Any, Any]") -> None:
    """Look at the fleets as a sweep does, without its hourly duties; workers send this themselves.

    Ends the runs that are past their deadline, and releases what waits for ended ones.
    """
    _look_at_every_fleet(self.app)


def _look_at_every_fleet(app: Celery, *, is_sweep: bool = False, beat: str = "") -> None:
    """Each in turn; what fails for one does not keep the others waiting."""
    process, failed = runtime(), None
    for partner in process.settings.partners:
        try:
            fleet = process.fleet(partner.partner_id)
            process.call(look(fleet, app, is_sweep=is_sweep, beat=beat))
        except RedisError as error:
            log.error("sweep.failed", partner_id=partner.partner_id, error=repr(error))
            failed = error
    if failed:
        raise failed
