"""A step that waits for a run without holding a worker slot.

The step stores its own message with the run and leaves (docs/decisions/0001). Whoever ends the
run sends that message again: the same task id comes back, finds its run ended and returns.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from celery import Task
from celery.exceptions import Ignore
from kombu.utils.json import dumps
from redis.exceptions import RedisError

from ..config.errors import InputError
from ..config.logs import log
from .errors import NotAWorkerError, RunFailedError
from .fleet import Fleet
from .look import look
from .runtime import runtime


class WaitingTask(Task):  # type: ignore[type-arg]  # generic for the checker alone
    """Base of the steps that wait for a run."""

    abstract = True

    def after_return(
        self,
        status: str,  # noqa: ARG002
        retval: Any,  # noqa: ANN401
        task_id: str,
        args: tuple[Any, ...],  # noqa: ARG002
        kwargs: dict[str, Any],  # noqa: ARG002
        einfo: Any,  # noqa: ANN401, ARG002
    ) -> None:
        """Note that the step has returned, with its callbacks sent; Ignore does not come here."""
        partner_id = retval.get("partner_id") if isinstance(retval, dict) else None
        if isinstance(retval, RunFailedError):
            partner_id = retval.summary.get("partner_id")
        if partner_id:
            try:
                runtime().call(runtime().fleet(partner_id).runs.confirm_release(task_id))
            except RedisError as error:  # the step is done; it is only sent again, and dropped
                log.warning("run.release_unconfirmed", run_id=task_id, error=repr(error))


def wait_for_run(
    task: "Task[Any, Any]",
    fleet: Fleet,
    fill: Callable[[str], Coroutine[Any, Any, None]],
    *,
    timeout_seconds: float,
    share: float,
) -> dict[str, Any]:
    """Open the run of this task's id, or see how it ended; returns its counts.

    `fill` attaches accounts to the run of the id it gets; it may be called again after a crash.
    Raises Ignore while the run goes on, RunFailedError if fewer than `share` of its accounts got
    their token.
    """
    run_id = task.request.id
    if run_id is None or task.request.is_eager:
        raise NotAWorkerError(f"{task.name} waits for workers: send it with .delay() or a canvas")
    call, runs = runtime().call, fleet.runs
    state = call(runs.open(run_id, timeout_seconds, _own_message(task)))
    if state in {"opened", "filling"}:
        call(fill(run_id))
        if call(runs.seal(run_id)):
            state = "ended"
        else:
            call(look(fleet, task.app))
    if state != "ended":
        raise Ignore
    redelivered = bool((task.request.delivery_info or {}).get("redelivered"))
    if not call(runs.resume(run_id, is_redelivered=redelivered)):
        raise Ignore
    summary = call(runs.summary(run_id))
    if summary is None or not summary.meets(share):
        raise RunFailedError(str(summary), summary.as_dict() if summary else None)
    return summary.as_dict()


def share_of(policy: str | float) -> float:
    """A policy as the least share of accounts that must get their token: "all", or 0 to 1."""
    if policy == "all":
        return 1.0
    try:
        share = float(policy)
    except (TypeError, ValueError):
        share = -1.0
    if not 0 <= share <= 1:
        raise InputError(f'policy {policy!r} is neither "all" nor a share from 0 to 1, as 0.995')
    return share


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
