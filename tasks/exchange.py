"""Asking for tokens: one account, or many as a run."""

from collections.abc import Sequence
from typing import Any

from celery import Task, shared_task

from ..config.queues import SWEEP_QUEUE
from .runtime import runtime
from .tokens.selection import Selection
from .waiting import WaitingTask, judge_by, share_of, wait_for_run

STEP: dict[str, Any] = {
    "bind": True,
    "base": WaitingTask,
    "queue": SWEEP_QUEUE,
    "acks_late": True,
    "reject_on_worker_lost": True,
    "ignore_result": False,
}


@shared_task(name="subtokens.exchange", **STEP)
def exchange(
    self: "Task[Any, Any]",
    account_id: str,
    *,
    partner_id: str | None = None,
    timeout: float | None = None,
    retry: bool = False,
) -> dict[str, Any]:
    """Exchange for one enrolled account now, whatever its token; waits without holding a slot.

    Returns the counts of its run; raises RunFailedError with the reason if it got no token within
    `timeout` seconds. An account that backs off for a fault of its own is asked for only with
    `retry`, which ends its quarantine too.
    """
    return _fan_out(self, [account_id], None, partner_id, timeout, "all", is_retry=retry)


@shared_task(name="subtokens.fan_out", **STEP)
def fan_out(
    self: "Task[Any, Any]",
    *previous: object,
    account_ids: Sequence[str] | None = None,
    selection: str | None = None,
    partner_id: str | None = None,
    timeout: float | None = None,
    policy: str | float = "all",
    retry: bool = False,
) -> dict[str, Any]:
    """Exchange for many accounts as one run; waits for its end without holding a worker slot.

    `account_ids`, a list that the previous step returned, or a stored `selection` chooses
    accounts; otherwise all that are enrolled. Returns the run's counts; raises RunFailedError if
    fewer than `policy` ("all" or a share) got their token within `timeout` seconds
    (SUBTOKENS_RUN_TIMEOUT_SECONDS).
    Accounts that back off for a fault of their own are asked for only with `retry`.
    """
    if account_ids is None and selection is None and previous and isinstance(previous[0], list):
        account_ids = previous[0]
    return _fan_out(self, account_ids, selection, partner_id, timeout, policy, is_retry=retry)


def _fan_out(
    task: "Task[Any, Any]",
    account_ids: Sequence[str] | None,
    selection: str | None,
    partner_id: str | None,
    timeout: float | None,
    policy: str | float,
    *,
    is_retry: bool,
) -> dict[str, Any]:
    share = share_of(policy)
    process = runtime()
    fleet = process.fleet(partner_id)
    chosen = Selection(fleet.store, account_ids, selection)

    async def fill(run_id: str) -> bool:
        async for page in chosen.pages():
            await fleet.runs.request(run_id, page, is_retry=is_retry)
        return False

    timeout_seconds = process.settings.run_timeout_seconds if timeout is None else timeout
    return wait_for_run(task, fleet, fill, judge_by(share, chosen), timeout_seconds=timeout_seconds)
