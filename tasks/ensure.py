"""Readiness as a step: every token lasts long enough when the next step begins."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from celery import Task, shared_task

from ..config.durations import seconds_of
from .errors import RunFailedError
from .exchange import STEP
from .fleet import Fleet
from .runtime import runtime
from .tokens.coming_day import lifetime_seconds
from .tokens.readiness import Means, Plan, plan_for
from .tokens.runs import RunSummary
from .tokens.selection import Selection
from .waiting import NOBODY_ENROLLED, share_of, wait_for_run


@shared_task(name="subtokens.ensure", **STEP)
def ensure(
    self: "Task[Any, Any]",
    *previous: object,
    valid_for: str | float | timedelta,
    account_ids: Sequence[str] | None = None,
    selection: str | None = None,
    partner_id: str | None = None,
    policy: str | float = "all",
    timeout: float | None = None,
) -> dict[str, Any]:
    """See to it that tokens last `valid_for` ("2h", seconds) from when this step returns.

    Exchanges only for those that would not, each at most once; waits without holding a slot.
    `account_ids`, a list that the previous step returned, or a stored `selection` chooses accounts;
    otherwise all that are enrolled. Returns counts; raises RunFailedError if fewer than `policy`
    ("all" or a share) have such a token within `timeout` seconds, and InputError at once, before
    any call is spent, if that cannot be: with the figures and the largest `valid_for` that fits.
    """
    share, seconds = share_of(policy), seconds_of(valid_for)
    fleet = runtime().fleet(partner_id)
    chosen = Selection(fleet.store, account_ids, selection, previous)
    timeout_seconds = fleet.settings.run_timeout_seconds if timeout is None else timeout

    async def fill(run_id: str) -> bool:
        return await attach_needed(fleet, run_id, chosen, seconds, timeout_seconds)

    async def judge(summary: RunSummary) -> dict[str, Any] | RunFailedError:
        return await judged(fleet, summary, chosen, seconds, share)

    return wait_for_run(self, fleet, fill, judge, timeout=timeout_seconds)


async def attach_needed(
    fleet: Fleet, run_id: str, chosen: Selection, valid_for_seconds: float, timeout_seconds: float
) -> bool:
    """Attach those whose token would not last; at first a batch, if no lifetime is known yet."""
    store, now_ms = fleet.store, fleet.store.now_ms()
    expiry_of: dict[str, int] = {}
    async for page in chosen.pages():
        expiry_of |= await store.expiries(page)
    lifetime = await lifetime_seconds(store)
    if lifetime is None and await fleet.runs.learning(run_id) != "done":
        batch = sorted(expiry_of)[: fleet.settings.batch_size]
        await fleet.runs.request(run_id, batch)
        return len(batch) < len(expiry_of)
    plan = Plan(now_ms + valid_for_seconds * 1000, 0, 0)
    if lifetime is not None:
        per_second = fleet.rate.per_second / fleet.partner.calls_per_exchange
        means = Means(lifetime, per_second, timeout_seconds)
        plan = plan_for(sorted(expiry_of.values()), now_ms, valid_for_seconds, means)
    needed = [account for account, expiry in expiry_of.items() if expiry < plan.horizon_ms]
    await fleet.runs.request(run_id, needed)
    return False


async def judged(
    fleet: Fleet, summary: RunSummary, chosen: Selection, valid_for_seconds: float, share: float
) -> dict[str, Any] | RunFailedError:
    """Look at every token again: what lasted at first may not last any longer."""
    until_ms = fleet.store.now_ms() + valid_for_seconds * 1000
    expiry_of: dict[str, int] = {}
    async for page in chosen.pages():
        expiry_of |= await fleet.store.expiries(page)
    valid = sum(expiry >= until_ms for expiry in expiry_of.values())
    counts = summary.as_dict() | {
        "accounts": len(expiry_of),
        "valid": valid,
        "valid_for_seconds": valid_for_seconds,
    }
    if not expiry_of and chosen.is_whole_fleet:
        return RunFailedError(NOBODY_ENROLLED, counts)
    if summary.is_whole and valid >= len(expiry_of) * share:
        return counts
    told = f"{valid} of {len(expiry_of)} accounts have a token for {valid_for_seconds:g} s more"
    return RunFailedError(f"{told}; {summary}", counts)
