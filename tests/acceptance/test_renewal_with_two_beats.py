"""Two beats and four workers at once, one beat killed: by the sandbox's count, nobody notices."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from subtokens.config.schedule import SWEEP_INTERVAL_SECONDS
from subtokens.tasks.dintero.client import PAGE_SIZE

from .conftest import (
    EXCHANGING,
    RENEWING,
    Call,
    Site,
    Upstream,
    account_ids,
    await_ready,
    eventually,
    exchanges,
)

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

ACCOUNTS = account_ids(1, 200)
LIFETIME_SECONDS = 20
DISCOVERY_SECONDS = 10
STRETCH_SECONDS = 20.0  # to settle, before the kill, after it
# An exchange is timed where it arrives, and its window where it is sent.
TOLERANCE_SECONDS = 0.5
PAGES = len(ACCOUNTS) // PAGE_SIZE + 1


@dataclass(frozen=True)
class Watched:
    """What the sandbox saw; instants are seconds since its start."""

    calls: list[Call] = field(repr=False)
    first_covered_at: float  # when each account had its first token
    killed_at: float
    ended_at: float
    opens: float  # a token's window
    closes: float
    status: dict[str, Any]
    said: str = field(repr=False)

    def renewals_between(self, start: float, end: float) -> int:
        return sum(c.kind == "exchange" and start < c.seconds <= end for c in self.calls)

    def walks(self) -> list[list[float]]:
        """When the pages of each walk through the account list were asked for."""
        asked = [call.seconds for call in self.calls if call.kind == "accounts"]
        return [asked[first : first + PAGES] for first in range(0, len(asked), PAGES)]


@pytest.fixture(scope="module")
def watched(redis_server: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("beats") / "here"
    options = {"lifetime_seconds": LIFETIME_SECONDS, "latency_seconds": 0.02}
    with (
        Upstream(accounts=len(ACCOUNTS), **options) as upstream,
        Site(folder, upstream.base_url, discovery_interval_seconds=DISCOVERY_SECONDS) as site,
    ):
        workers = [
            site.worker("renew-1", *RENEWING),
            site.worker("renew-2", *RENEWING),
            site.worker("exchange-1", *EXCHANGING),
            site.worker("exchange-2", *EXCHANGING),
        ]
        await_ready(*workers)
        beats = [site.celery(f"beat-{n}", "beat", "--loglevel=INFO") for n in (1, 2)]
        # Nobody enrols them: the first discovery does.
        eventually(lambda: upstream.has_exchanged(ACCOUNTS), told=beats[0].said, every=0.2)
        first_covered_at = upstream.now()

        def await_instant(seconds: float) -> float:
            return eventually(
                lambda: (now := upstream.now()) > seconds and now, within=60, every=0.1
            )

        await_instant(first_covered_at + 2 * STRETCH_SECONDS)
        beats[0].kill()
        killed_at = upstream.now()
        ended_at = await_instant(killed_at + STRETCH_SECONDS)
        assert beats[1].is_alive
        assert all(worker.is_alive for worker in workers)
        calls = [call for call in upstream.calls() if call.seconds <= ended_at]
        yield Watched(
            calls,
            first_covered_at,
            killed_at,
            ended_at,
            *site.renewal_window(LIFETIME_SECONDS),
            site.status(),
            "".join(child.said() for child in (*workers, *beats)),
        )


def test_no_account_is_exchanged_before_its_window_opens(watched: Watched) -> None:
    """A second exchange of the same token would come at once, or while the first is under way."""
    found = exchanges(watched.calls)
    gaps = sorted(b - a for arrivals in found.values() for a, b in pairwise(arrivals))
    sys.stdout.write(
        f"{len(gaps)} renewals of {len(found)} accounts, {gaps[0]:.2f} to {gaps[-1]:.2f} s after "
        f"the exchange before; the window is {watched.opens:.2f} to {watched.closes:.2f} s\n"
    )
    assert len(gaps) > 4 * len(ACCOUNTS)
    assert gaps[0] >= watched.opens - TOLERANCE_SECONDS
    assert {call.status for call in watched.calls} == {200}


def test_no_account_lapses_and_nothing_fails(watched: Watched) -> None:
    found = exchanges(watched.calls)
    assert set(found) == set(ACCOUNTS)
    for arrivals in found.values():
        gaps = [b - a for a, b in pairwise([*arrivals, watched.ended_at])]
        assert max(gaps) < LIFETIME_SECONDS - TOLERANCE_SECONDS
    status = watched.status
    assert (status["valid"], status["expired"], status["failing"]) == (len(ACCOUNTS), 0, 0)
    assert (status["lapses"], status["uncovered_seconds"], status["failed"]) == (0, 0, 0)
    assert "Traceback" not in watched.said


def test_a_killed_beat_is_not_missed_beside_another(watched: Watched) -> None:
    killed_at = watched.killed_at
    before = watched.renewals_between(killed_at - STRETCH_SECONDS, killed_at)
    after = watched.renewals_between(killed_at, killed_at + STRETCH_SECONDS)
    edges = [killed_at + STRETCH_SECONDS / 4 * n for n in range(5)]
    quarters = [watched.renewals_between(*ends) for ends in pairwise(edges)]
    sys.stdout.write(
        f"{before} renewals in {STRETCH_SECONDS:g} s before the kill, {after} after: {quarters}\n"
    )
    # The fleet got its first tokens at once, and still comes a little in waves.
    assert after == pytest.approx(before, rel=0.15)
    assert min(quarters) > before / 4 / 2


def test_the_account_list_is_walked_once_per_interval(watched: Watched) -> None:
    walks = watched.walks()
    starts = [walk[0] for walk in walks]
    told = ", ".join(f"{start:.1f}" for start in starts)
    sys.stdout.write(f"walks at {told} s; a beat killed at {watched.killed_at:.1f} s\n")
    assert max(walk[-1] - walk[0] for walk in walks) < 2, "two walks at once"
    latest = DISCOVERY_SECONDS + 2 * SWEEP_INTERVAL_SECONDS + TOLERANCE_SECONDS
    gaps = [b - a for a, b in pairwise(starts)]
    assert min(gaps) >= DISCOVERY_SECONDS - TOLERANCE_SECONDS
    assert max([*gaps, watched.ended_at - starts[-1]]) <= latest
    assert starts[1] < watched.killed_at < starts[-1]
