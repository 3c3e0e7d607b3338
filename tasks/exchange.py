"""Asking for tokens: one account, or many as a run."""

from collections.abc import Sequence
from typing import Any

from celery import Task, shared_task

from ..config.queues import SWEEP_QUEUE
from .fleet import Fleet
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
    fleet = runtime().fleet(partner_id)
    chosen = Selection(fleet.store, [account_id], None)
    return _fan_out(self, fleet, chosen, timeout, "all", is_retry=retry)


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
    fleet = runtime().fleet(partner_id)
    chosen = Selection(fleet.store, account_ids, selection, previous)
    return _fan_out(self, fleet, chosen, timeout, policy, is_retry=retry)


def _fan_out(
    task: "Task[Any, Any]",
    fleet: Fleet,
    chosen: Selection,
    timeout: float | None,
    policy: str | float,
    *,
    is_retry: bool,
) -> dict[str, Any]:
    judge = judge_by(share_of(policy), chosen)

    async def fill(run_id: str) -> bool:
        async for page in chosen.pages():
            await fleet.runs.request(run_id, page, is_retry=is_retry)
        return False

    return wait_for_run(task, fleet, fill, judge, timeout=timeout)
