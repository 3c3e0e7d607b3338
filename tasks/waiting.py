"""A step that waits for a run without holding a worker slot.

The step stores its own message with the run and leaves (docs/decisions/0001). Whoever ends the
run sends that message again: the same task id comes back, finds its run ended and returns.
"""

import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore
from kombu.exceptions import OperationalError
from kombu.utils.json import dumps
from redis.exceptions import RedisError

from ..config.durations import LONGEST_TIMEOUT_SECONDS
from ..config.errors import InputError, SubtokensError
from ..config.ids import checked_run_id
from ..config.logs import log
from .errors import NotAWorkerError, RunFailedError
from .fleet import Fleet
from .look import look
from .runtime import runtime
from .tokens.runs import RunSummary
from .tokens.selection import Selection

# A store that is away for so long fails the step; until then it asks again, and nothing is lost.
_OUTAGE_SECONDS, _ASK_AGAIN_SECONDS = 30.0, 0.5
NOBODY_ENROLLED = "no account is enrolled: discover or import some first"
Fill = Callable[[str], Coroutine[Any, Any, bool]]
Judge = Callable[[RunSummary], Coroutine[Any, Any, dict[str, Any] | RunFailedError]]


class WaitingTask(Task):  # type: ignore[type-arg]  # generic for the checker alone
    """Base of the steps that wait for a run."""

    abstract = True

    def signature(self, args: Any = None, *others: Any, **options: Any) -> Any:  # noqa: ANN401
        """As Celery's, with durations that a message can hold."""
        return super().signature(args, *map(_without_timedelta, others), **options)

    def apply_async(  # type: ignore[override]  # the rest goes by name, as Celery itself does it
        self,
        args: Any = None,  # noqa: ANN401
        kwargs: Any = None,  # noqa: ANN401
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """As Celery's, with durations that a message can hold."""
        return super().apply_async(args, _without_timedelta(kwargs), **options)

    def after_return(
        self,
        status: str,  # noqa: ARG002
        retval: Any,  # noqa: ANN401, ARG002
        task_id: str,
        args: tuple[Any, ...],  # noqa: ARG002
        kwargs: dict[str, Any],
        einfo: Any,  # noqa: ANN401, ARG002
    ) -> None:
        """Note that the step has returned, with its callbacks sent; Ignore does not come here."""
        try:
            fleet = runtime().fleet(kwargs.get("partner_id"))
            runtime().call(fleet.runs.confirm_release(checked_run_id(task_id)))
        except RedisError as error:  # the step is done; it is only sent again, and dropped
            log.warning("run.release_unconfirmed", run_id=task_id, error=repr(error))
        except SubtokensError:
            return  # it is for this that the step has failed, before it opened a run


def wait_for_run(
    task: "Task[Any, Any]", fleet: Fleet, fill: Fill, judge: Judge, *, timeout: float | None
) -> dict[str, Any]:
    """Open the run of this task's id, or see how it ended; returns what `judge` makes of it.

    `fill` attaches accounts to the run of the id it gets, and may be called again after a crash.
    Where it returns True, it is called once more when those accounts are done. Raises Ignore while
    the run goes on, InputError for a bad `timeout` or task id, and what the two raise. Without a
    timeout, in seconds, the one of the settings counts.
    """
    timeout_seconds = fleet.settings.run_timeout_seconds if timeout is None else timeout
    if not (
        isinstance(timeout_seconds, int | float) and 0 < timeout_seconds <= LONGEST_TIMEOUT_SECONDS
    ):
        raise InputError(
            f"timeout {timeout_seconds!r:.40} must be more than 0 and at most "
            f"{LONGEST_TIMEOUT_SECONDS} seconds"
        )
    request = task.request  # of this thread; what runs in the event loop's would see none
    if request.id is None or request.is_eager:
        raise NotAWorkerError(f"{task.name} waits for workers: send it with .delay() or a canvas")
    is_redelivered = bool((request.delivery_info or {}).get("redelivered"))
    delivery = _Delivery(checked_run_id(request.id), _own_message(task), is_redelivered)
    gives_up_at = time.monotonic() + _OUTAGE_SECONDS
    while True:
        try:
            result = runtime().call(
                _advance(delivery, task.app, fleet, fill, judge, timeout_seconds)
            )
            break
        except RedisError:  # a step goes on where it was, however often it is taken up
            if time.monotonic() > gives_up_at:
                raise
            time.sleep(_ASK_AGAIN_SECONDS)
    if result is None:
        raise Ignore
    return result


@dataclass(frozen=True, slots=True)
class _Delivery:
    run_id: str
    message: str
    is_redelivered: bool


async def _advance(
    step: _Delivery,
    app: Celery,
    fleet: Fleet,
    fill: Fill,
    judge: Judge,
    timeout_seconds: float,
) -> dict[str, Any] | None:
    """Take the step as far as it goes now; None where its run goes on or a copy is at it."""
    run_id, runs, has_leave = step.run_id, fleet.runs, False
    state = await runs.open(run_id, timeout_seconds, step.message)
    if state == "open":
        return None
    if state == "ended" and await runs.learning(run_id) == "now":
        has_leave = await runs.resume(run_id, is_redelivered=step.is_redelivered)
        if not has_leave:
            return None
        if await runs.reopen(run_id):
            state, has_leave = "filling", False
    while state != "ended":
        is_learning = await fill(run_id)
        if not await runs.seal(run_id, is_learning=is_learning):
            with suppress(RedisError, OperationalError):  # it is parked; whoever watches looks
                await look(fleet, app)
            return None
        state = "filling" if is_learning and await runs.reopen(run_id) else "ended"
    summary = await runs.summary(run_id)
    if summary is None:
        raise RunFailedError(f"run {run_id} is no longer known: the store has lost it")
    verdict = await judge(summary)
    if has_leave or await runs.resume(run_id, is_redelivered=step.is_redelivered):
        if isinstance(verdict, RunFailedError):
            raise verdict
        return verdict
    return None


def judge_by(share: float, chosen: Selection, what_is_done: str = "have their token") -> Judge:
    """Judges a run by the share of its accounts that came about; a fleet of none is none."""

    async def judge(summary: RunSummary) -> dict[str, Any] | RunFailedError:
        counts = summary.as_dict()
        if summary.is_whole and not summary.accounts and chosen.is_whole_fleet:
            return RunFailedError(NOBODY_ENROLLED, counts)
        if summary.meets(share):
            return counts
        return RunFailedError(summary.told(what_is_done), counts)

    return judge


def share_of(policy: str | float) -> float:
    """A policy as the least share of accounts that must get their token: "all", or 0 to 1."""
    if policy == "all":
        return 1.0
    try:
        share = float(policy)
    except (TypeError, ValueError, OverflowError):
        share = -1.0
    if not 0 <= share <= 1:
        raise InputError(
            f'policy {policy!r:.40} is neither "all" nor a share from 0 to 1, as 0.995'
        )
    return share


def _without_timedelta(kwargs: Any) -> Any:  # noqa: ANN401 - what a caller passes
    if not isinstance(kwargs, dict):
        return kwargs
    return {
        name: value.total_seconds() if isinstance(value, timedelta) else value
        for name, value in kwargs.items()
    }


def _own_message(task: "Task[Any, Any]") -> str:
    request = task.request
    asked_to_ignore = vars(request).get("ignore_result")  # Celery drops a caller's wish
    message = task.signature_from_request(
        request,
        tuple(request.args or ()),
        dict(request.kwargs or {}),
        retries=request.retries,
        ignore_result=task.ignore_result if asked_to_ignore is None else asked_to_ignore,
    )
    message.options.pop("expires", None)  # it has started in time; a long wait must not revoke it
    return dumps(dict(message))
