"""The user's own task over every ready account, in bounded waves, as one step of a canvas."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeGuard

from celery import Task, shared_task
from kombu.utils.json import dumps

from ..config.durations import seconds_of
from ..config.errors import InputError
from ..config.ids import checked_account_id, checked_run_id
from ..config.queues import ACCOUNTS_QUEUE
from .exchange import STEP
from .look import release
from .runtime import runtime
from .tokens.selection import Selection
from .waiting import judge_by, share_of, wait_for_run
from .waves import FAILED, send_wave

MOST_AT_ONCE = 10_000


@shared_task(name="subtokens.for_each_account", **STEP)
def for_each_account(
    self: "Task[Any, Any]",
    *arguments: Any,  # noqa: ANN401 - perhaps what the previous step returned, then the signature
    account_ids: Sequence[str] | None = None,
    selection: str | None = None,
    partner_id: str | None = None,
    valid_for: str | float | timedelta = 0,
    at_once: int = 100,
    policy: str | float = "all",
    timeout: float | None = None,
) -> dict[str, Any]:
    """Run a task of yours for each account that has a token; waits without holding a slot.

    Takes the signature of your task, after what the previous step returned, if it returned a list
    of ids; or `account_ids`, or a stored `selection`; otherwise all that are enrolled.
    The task of `signature` gets the account id as its first argument, and fetches the token when
    it runs. At most `at_once` messages are under way. Accounts whose token does not last
    `valid_for` count as failed (`no_token`), as do those whose task fails (`failed`). Returns the
    run's counts; raises RunFailedError if fewer than `policy` came about within `timeout` seconds.
    """
    share, seconds = share_of(policy), seconds_of(valid_for)
    *previous, signature = arguments or (None,)
    if not _is_signature(signature):
        raise InputError("signature is no task's signature: pass settle.s() or settle.si()")
    if not isinstance(at_once, int) or not 1 <= at_once <= MOST_AT_ONCE:
        raise InputError(f"at_once {at_once!r:.40} must be from 1 to {MOST_AT_ONCE}")
    fleet = runtime().fleet(partner_id)
    chosen = Selection(fleet.store, account_ids, selection, previous)

    async def fill(run_id: str) -> bool:
        await fleet.runs.keep_message(run_id, dumps(dict(signature)), at_once)
        until_ms = fleet.store.now_ms() + seconds * 1000
        async for page in chosen.pages():
            expiry_of = await fleet.store.expiries(page)
            ready = [account for account, expiry in expiry_of.items() if expiry >= until_ms]
            await fleet.runs.enlist(run_id, ready)
            await fleet.runs.enlist(run_id, sorted(expiry_of.keys() - ready), "no_token")
        return False

    judge = judge_by(share, chosen, "are done")
    return wait_for_run(self, fleet, fill, judge, timeout=timeout)


@shared_task(
    name="subtokens.account_done",
    bind=True,
    queue=ACCOUNTS_QUEUE,
    acks_late=True,
    reject_on_worker_lost=True,
    ignore_result=True,
)
def account_done(
    self: "Task[Any, Any]", run_id: str, account_id: str, reason: str = "", *, partner_id: str
) -> None:
    """Note that your task has ended for one account, and send the next wave when it is time."""
    process = runtime()
    fleet = process.fleet(partner_id)
    checked_account_id(account_id, fleet.partner.partner_id)
    if reason not in ("", FAILED):
        raise InputError(f"reason {reason!r:.40} is neither empty nor {FAILED!r}")
    report = fleet.runs.account_done(checked_run_id(run_id), account_id, reason)
    has_more, ended = process.call(report)
    if has_more:
        process.call(send_wave(fleet, self.app, run_id))
    process.call(release(fleet, self.app, ended))


def _is_signature(given: object) -> TypeGuard[dict[str, Any]]:
    parts = {"task": str, "args": list | tuple, "kwargs": dict, "options": dict}
    return isinstance(given, dict) and all(isinstance(given.get(k), t) for k, t in parts.items())
