"""After a standstill of more than a lifetime: the earliest expiry first, within the rate."""

import sys
from collections.abc import Callable

import pytest

from subtokens.workers.processes import Child

from .conftest import (
    EXCHANGING,
    RENEWING,
    Site,
    Upstream,
    account_ids,
    await_ready,
    eventually,
    exchanges,
)

ACCOUNTS = account_ids(1, 300)
LIFETIME_SECONDS = 20
RATE = 30  # so that the first tokens, and their ends, lie ten seconds apart
AT_ONCE, BATCH, PROCESSES = 10, 10, 2
# A stint ends soon, so that a worker that is stopped need not be killed with claims in its hands.
SETTINGS = {
    "rate_limit": RATE,
    "concurrency": AT_ONCE,
    "batch_size": BATCH,
    "call_timeout_seconds": 2,
    "batch_deadline_seconds": 3,
}


def start(site: Site, name: str) -> list[Child]:
    children = [
        site.worker(f"renew-{name}", *RENEWING, f"--concurrency={PROCESSES}"),
        site.worker(f"exchange-{name}", *EXCHANGING),
    ]
    await_ready(*children)
    return [*children, site.celery(f"beat-{name}", "beat", "--loglevel=INFO")]


def displacements(expected: list[str], seen: list[str]) -> list[int]:
    """How many places each stands from where it should."""
    place = {account_id: number for number, account_id in enumerate(expected)}
    return [abs(place[account_id] - number) for number, account_id in enumerate(seen)]


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_a_fleet_that_stood_still_is_renewed_by_the_earliest_expiry(
    new_site: Callable[..., Site],
) -> None:
    options = {"lifetime_seconds": LIFETIME_SECONDS, "latency_seconds": 0.02}
    with Upstream(accounts=len(ACCOUNTS), **options) as upstream:
        site = new_site(upstream.base_url, **SETTINGS)
        children = start(site, "first")
        site.enrol(ACCOUNTS)
        eventually(lambda: upstream.has_exchanged(ACCOUNTS), within=60, every=0.1)
        for child in reversed(children):
            child.stop()
        last, stopped_at = upstream.last(), upstream.now()
        got_at = {account: found[-1] for account, found in exchanges(upstream.calls()).items()}
        assert stopped_at - min(got_at.values()) > 5, "the tokens were all obtained at once"

        def expired() -> dict[str, object] | None:
            status = site.status()
            return status if status["expired"] == len(ACCOUNTS) else None

        eventually(lambda: upstream.now() > stopped_at + LIFETIME_SECONDS, every=0.1)
        status = eventually(expired, every=0.5)
        stood_still = upstream.now() - stopped_at
        assert upstream.last() == last, "somebody went on"
        children = start(site, "second")
        eventually(lambda: upstream.has_exchanged(ACCOUNTS, last), within=60, every=0.1)
        calls = upstream.calls(last)
        found = exchanges(calls)
        seen = sorted(ACCOUNTS, key=lambda account_id: found[account_id][0])
        expected = sorted(ACCOUNTS, key=lambda account_id: got_at[account_id])
        off = sorted(displacements(expected, seen))
        took = found[seen[-1]][0] - found[seen[0]][0]
        busiest = upstream.stats()["max_calls_in_any_second"]
        spread = max(got_at.values()) - min(got_at.values())
        sys.stdout.write(
            f"{len(ACCOUNTS)} tokens obtained within {spread:.1f} s, {stood_still:.1f} s of "
            f"standstill: {status['due']} due, {status['catch_up_seconds']} s to catch up were "
            f"promised, {took:.1f} s were taken; an account came at most {off[-1]} places off its "
            f"turn, half of them at most {off[len(off) // 2]}; {busiest} calls in the busiest "
            f"second\n"
        )
        assert (status["due"], status["claimed"]) == (len(ACCOUNTS), 0)
        assert status["catch_up_seconds"] == pytest.approx(len(ACCOUNTS) / RATE)
        assert off[-1] <= PROCESSES * AT_ONCE + BATCH
        assert {call.status for call in calls} == {200}
        assert busiest <= RATE * 1.25
        assert took <= len(ACCOUNTS) / RATE * 1.25
        assert "Traceback" not in "".join(child.said() for child in children)
