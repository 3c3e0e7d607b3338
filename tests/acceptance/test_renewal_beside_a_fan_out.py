"""Renewals that become due while ten thousand others are asked for: each is still in time."""

import math
import sys
import time
from collections.abc import Callable

import pytest

import subtokens
from subtokens.config.schedule import SWEEP_INTERVAL_SECONDS

from .conftest import (
    DEADLINE_SECONDS,
    EXCHANGING,
    RENEWING,
    Site,
    Upstream,
    account_ids,
    await_ready,
    eventually,
    exchanges,
    sending_by,
)

RENEWED, ASKED = account_ids(1, 400), account_ids(401, 10_000)
RATE = 400
SPREAD_SECONDS = 20.0  # within the time that the fan-out takes
MOST_IDS = 5_000  # in a message


def share_of(ordered: list[float], share: float) -> float:
    """The least value that so many are not above."""
    return ordered[math.ceil(len(ordered) * share) - 1]


@pytest.mark.faults
def test_renewals_do_not_wait_for_a_fan_out_where_one_worker_does_both(
    new_site: Callable[..., Site],
) -> None:
    """A ticket may hold each of its slots for twenty seconds."""
    renewed, asked = RENEWED[:100], ASKED[:3000]
    with Upstream(accounts=4000, latency_seconds=0.03) as upstream:
        site = new_site(upstream.base_url, rate_limit=200, discovery_interval_seconds=0)
        site.enrol(renewed + asked)
        await_ready(site.worker("all"))
        site.celery("beat", "beat")
        eventually(lambda: len(upstream.calls()) > 50)  # its slots hold tickets of the fan-out
        before, now = upstream.last(), time.time()
        due = {account_id: int((now + n * 0.05) * 1000) for n, account_id in enumerate(renewed)}
        assert site.store.zadd(site.keys.due, due, xx=True, ch=True) == len(renewed)
        eventually(lambda: upstream.has_exchanged(renewed, before))
        started_at = upstream.stats()["started_at"]
        arrived = exchanges(upstream.calls_of(renewed, before))
        lateness = sorted(started_at + arrived[a][0] - due[a] / 1000 for a in renewed)
        sys.stdout.write(f"late by {lateness[50]:.2f} s (p50), {lateness[-1]:.2f} s (max)\n")
        assert len(upstream.calls_of(asked)) < len(asked), "the fan-out was over: it proves nothing"
        assert lateness[-1] <= 3


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_renewals_are_in_time_beside_a_fan_out_of_ten_thousand(
    new_site: Callable[..., Site],
) -> None:
    with Upstream(accounts=len(RENEWED) + len(ASKED), latency_seconds=0.03) as upstream:
        site = new_site(upstream.base_url, rate_limit=RATE, discovery_interval_seconds=0)
        site.enrol(RENEWED + ASKED)
        # They are due for the first time when they are asked for, and not before.
        site.store.zadd(site.keys.due, dict.fromkeys(ASKED, -int(time.time() + 3600) * 1000))
        workers = [site.worker("renew", *RENEWING), site.worker("exchange", *EXCHANGING)]
        await_ready(*workers)
        beat = site.celery("beat", "beat", "--loglevel=INFO")
        with sending_by(site.app):
            subtokens.fan_out.si(account_ids=RENEWED).apply_async().get(timeout=DEADLINE_SECONDS)
            before = upstream.last()

            step = SPREAD_SECONDS / len(RENEWED)
            first = time.time() + 1
            due = {account_id: first + n * step for n, account_id in enumerate(RENEWED)}
            scores = {account_id: int(at * 1000) for account_id, at in due.items()}
            assert site.store.zadd(site.keys.due, scores, xx=True, ch=True) == len(RENEWED)
            runs = [
                subtokens.fan_out.si(account_ids=ASKED[start : start + MOST_IDS]).apply_async()
                for start in range(0, len(ASKED), MOST_IDS)
            ]
            done = [run.get(timeout=120) for run in runs]
        eventually(lambda: upstream.has_exchanged(RENEWED, before), told=beat.said)

        stats = upstream.stats()
        calls = upstream.calls(before)
        arrivals = {
            account_id: [stats["started_at"] + seconds for seconds in found]
            for account_id, found in exchanges(calls).items()
        }
        asked_at = sorted(arrivals[account_id][0] for account_id in ASKED)
        lateness = sorted(arrivals[account_id][0] - due[account_id] for account_id in RENEWED)
        p50, p99 = share_of(lateness, 0.5), share_of(lateness, 0.99)
        took, busiest = asked_at[-1] - asked_at[0], stats["max_calls_in_any_second"]
        sys.stdout.write(
            f"{len(RENEWED)} renewals beside a fan-out of {len(ASKED)}: late by {p50:.2f} s (p50), "
            f"{p99:.2f} s (p99), {lateness[-1]:.2f} s (max); the fan-out took {took:.1f} s, "
            f"{len(ASKED) / took:.0f} a second of {RATE}; {busiest} calls in the busiest second\n"
        )
        assert sum(run["done"] for run in done) == len(ASKED)
        assert [run["failed"] for run in done] == [{}, {}]
        assert {call.status for call in calls} == {200}
        assert {len(found) for found in arrivals.values()} == {1}, "an account was exchanged twice"
        assert asked_at[0] < first, "the fan-out began after the first was due"
        assert asked_at[-1] > max(due.values()), "the fan-out ended before the last was due"
        assert lateness[0] >= -0.05
        assert p99 <= 2 * SWEEP_INTERVAL_SECONDS
        assert busiest <= RATE * 1.25
        assert "Traceback" not in "".join(child.said() for child in (*workers, beat))
