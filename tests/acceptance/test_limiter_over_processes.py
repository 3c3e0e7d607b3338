"""One rate limit for four worker processes, by the sandbox's own count of calls."""

import os
import sys
from bisect import bisect_left
from collections.abc import Iterator

import pytest

import subtokens

from .conftest import Call, Site, Upstream, account_ids, await_ready, eventually, sending_by

RATE = float(os.environ.get("LIMITER_RATE", "100"))  # by hand: another rate, a longer window
WINDOW_SECONDS = float(os.environ.get("LIMITER_WINDOW_SECONDS", "8"))
ACCOUNTS = int(RATE * (WINDOW_SECONDS + 12))
# What was reserved before a pause may still be called: a quarter second of permits, each used up
# to a tenth late, and the way there.
RESERVED_SECONDS = 0.5


def busiest_second(calls: list[Call]) -> int:
    """The most calls in any second, wherever it begins."""
    times = [call.seconds for call in calls]
    return max(bisect_left(times, start + 1.0) - first for first, start in enumerate(times))


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(accounts=ACCOUNTS, latency_seconds=0.02) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def site(
    redis_server: object, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Two workers of two processes, all four at work on more accounts than the window takes."""
    folder = tmp_path_factory.mktemp("limiter") / "here"
    with Site(folder, upstream.base_url, rate_limit=RATE) as site:
        await_ready(site.worker("one"), site.worker("other"))
        site.enrol(account_ids(1, ACCOUNTS))
        with sending_by(site.app):
            subtokens.fan_out.si().apply_async()
        yield site


def processes_at_work(site: Site) -> set[int]:
    active = site.app.control.inspect(timeout=0.5).active() or {}
    return {task["worker_pid"] for tasks in active.values() for task in tasks}


def test_four_processes_together_keep_the_rate_and_use_it(site: Site, upstream: Upstream) -> None:
    eventually(lambda: len(processes_at_work(site)) == 4)
    begins_at = upstream.calls()[0].seconds
    ends_at = begins_at + WINDOW_SECONDS
    eventually(lambda: upstream.calls(upstream.last() - 1)[0].seconds > ends_at)
    calls = [call for call in upstream.calls() if call.seconds <= ends_at]
    used, busiest = len(calls) / (RATE * WINDOW_SECONDS), busiest_second(calls)
    sys.stdout.write(f"{used:.1%} of the rate used, {busiest} calls in the busiest second\n")
    assert {call.status for call in calls} == {200}
    assert len({call.account for call in calls}) == len(calls), "an account was exchanged twice"
    assert busiest <= RATE * 1.25
    assert used >= 0.95


def test_a_429_pauses_all_processes_at_once(site: Site, upstream: Upstream) -> None:
    assert len(processes_at_work(site)) == 4
    before = upstream.last()
    with upstream.troubled(throttle_share=0.05):
        eventually(lambda: seconds_since_refusal(upstream.calls(before)) > 2.5)
    calls = upstream.calls(before)
    refusals = [call.seconds for call in calls if call.status == 429]
    for refused_at in refusals:
        assert not [
            call for call in calls if refused_at + RESERVED_SECONDS < call.seconds < refused_at + 1
        ]
    assert [call for call in calls if call.seconds > refusals[0] + 1], "nobody went on"


def seconds_since_refusal(calls: list[Call]) -> float:
    """From the first 429 to the last of these calls."""
    refused = [call.seconds for call in calls if call.status == 429]
    return calls[-1].seconds - refused[0] if refused else 0.0
