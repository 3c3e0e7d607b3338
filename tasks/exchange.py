"""Asking for tokens: one account, or many as a run."""

from collections.abc import Sequence
from typing import Any

from celery import Task, shared_task

from ..config.celeryconfig import SWEEP_QUEUE
from ..config.errors import InputError
from ..config.ids import checked_account_ids
from .runtime import runtime
from .waiting import WaitingTask, share_of, wait_for_run

MOST_IDS_IN_A_MESSAGE = 5_000
LONGEST_TIMEOUT_SECONDS = 86_400

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
    return _fan_out(self, [account_id], partner_id, timeout, "all", is_retry=retry)


@shared_task(name="subtokens.fan_out", **STEP)
def fan_out(
    self: "Task[Any, Any]",
    *previous: object,
    account_ids: Sequence[str] | None = None,
    partner_id: str | None = None,
    timeout: float | None = None,
    policy: str | float = "all",
    retry: bool = False,
) -> dict[str, Any]:
    """Exchange for many accounts as one run; waits for its end without holding a worker slot.

    `account_ids`, or a list that the previous step returned, chooses accounts; otherwise all
    that are enrolled. Returns the run's counts; raises RunFailedError if fewer than `policy`
    ("all" or a share) got their token within `timeout` seconds (SUBTOKENS_RUN_TIMEOUT_SECONDS).
    Accounts that back off for a fault of their own are asked for only with `retry`.
    """
    chosen = account_ids
    if chosen is None and previous and isinstance(previous[0], list):
        chosen = previous[0]
    return _fan_out(self, chosen, partner_id, timeout, policy, is_retry=retry)


def _fan_out(
    task: "Task[Any, Any]",
    account_ids: Sequence[str] | None,
    partner_id: str | None,
    timeout: float | None,
    policy: str | float,
    *,
    is_retry: bool,
) -> dict[str, Any]:
    share = share_of(policy)
    if account_ids is not None and len(account_ids) > MOST_IDS_IN_A_MESSAGE:
        raise InputError(
            f"{len(account_ids)} account ids are too many for a message, at most "
            f"{MOST_IDS_IN_A_MESSAGE}: leave account_ids out for all, or send several steps"
        )
    process = runtime()
    timeout_seconds = process.settings.run_timeout_seconds if timeout is None else timeout
    if not 0 < timeout_seconds <= LONGEST_TIMEOUT_SECONDS:
        raise InputError(
            f"timeout {timeout!r} must be more than 0 and at most {LONGEST_TIMEOUT_SECONDS} seconds"
        )
    fleet = process.fleet(partner_id)
    ids = (
        None if account_ids is None else checked_account_ids(account_ids, fleet.partner.partner_id)
    )

    async def fill(run_id: str) -> None:
        if ids is None:
            await fleet.runs.request_all(run_id, is_retry=is_retry)
        else:
            await fleet.runs.request(run_id, ids, is_retry=is_retry)

    return wait_for_run(task, fleet, fill, timeout_seconds=timeout_seconds, share=share)
