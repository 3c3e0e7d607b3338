"""Tokens of twenty seconds, and a batch job that reads them all the time."""

import sys
import time
from collections.abc import Callable

import pytest

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
WATCHED_SECONDS = 120.0
POLL_SECONDS = 0.2


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_a_reader_never_misses_a_token_of_a_short_lived_fleet(
    new_site: Callable[..., Site],
) -> None:
    options = {"lifetime_seconds": LIFETIME_SECONDS, "latency_seconds": 0.02}
    with Upstream(accounts=len(ACCOUNTS), **options) as upstream:
        site = new_site(upstream.base_url)
        workers = [site.worker("renew", *RENEWING), site.worker("exchange", *EXCHANGING)]
        await_ready(*workers)
        beat = site.celery("beat", "beat", "--loglevel=INFO")
        site.enrol(ACCOUNTS)
        reader = site.reader()
        eventually(lambda: len(reader.get_many(ACCOUNTS)) == len(ACCOUNTS), told=beat.said)

        starts_at = upstream.now()
        began, polls, slowest = time.monotonic(), 0, 0.0
        missed: list[tuple[float, list[str]]] = []  # when, and whose
        while (polled_at := time.monotonic()) < began + WATCHED_SECONDS:
            found = reader.get_many(ACCOUNTS)
            if len(found) < len(ACCOUNTS):
                missed.append((polled_at - began, sorted(set(ACCOUNTS) - set(found))))
            polls, took = polls + 1, time.monotonic() - polled_at
            slowest = max(slowest, took)
            time.sleep(max(0.0, POLL_SECONDS - took))
        reader.close()
        ends_at = upstream.now()
        status = site.status()

        calls = [call for call in upstream.calls() if starts_at < call.seconds <= ends_at]
        counts = sorted(len(arrivals) for arrivals in exchanges(calls).values())
        opens, closes = site.renewal_window(LIFETIME_SECONDS)
        watched = ends_at - starts_at
        sys.stdout.write(
            f"{len(ACCOUNTS)} accounts, tokens of {LIFETIME_SECONDS} s, {watched:.1f} s: "
            f"{polls} polls, the slowest took {slowest * 1000:.0f} ms, {len(missed)} missed "
            f"a token; {sum(counts)} renewals, {counts[0]} to {counts[-1]} an account "
            f"(window {opens:.2f} to {closes:.2f} s); uncovered {status['uncovered_seconds']} s, "
            f"{status['lapses']} lapses, {status['failed']} failures\n"
        )
        assert polls >= WATCHED_SECONDS / POLL_SECONDS / 2, "the reader hardly looked"
        assert missed == []
        assert {call.status for call in calls} == {200}
        assert len(counts) == len(ACCOUNTS)
        assert counts[0] >= watched / closes - 1
        assert counts[-1] <= watched / opens + 1
        assert (status["valid"], status["expired"], status["failing"]) == (len(ACCOUNTS), 0, 0)
        assert (status["uncovered_seconds"], status["lapses"]) == (0, 0)
        assert "Traceback" not in "".join(child.said() for child in (*workers, beat))
