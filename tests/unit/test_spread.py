"""The proof that a fleet onboarded at once spreads: the real rule, under a clock that is pushed."""

import sys
from collections.abc import Iterator
from heapq import heapify, heapreplace

import pytest

from subtokens.tasks.tokens.forecast import hourly_calls, usable_seconds
from subtokens.tasks.tokens.renewal import Cadence, even_places, renew_ms

START_MS = 1_800_000_000_000
CADENCE = Cadence(attempt_seconds=10)
FLEET, LIFETIME_SECONDS = 100_000, 4 * 3600
STEADY_PER_MINUTE = FLEET / usable_seconds(LIFETIME_SECONDS, CADENCE) * 60  # 694


def exchanges(
    accounts: int, lifetime_seconds: int, until_seconds: int, slot_seconds: int
) -> list[int]:
    """Exchanges in each slot: all accounts at instant 0, then each whenever it is due.

    Four processes take turns, each with places of its own, as workers have them.
    """
    counts = [0] * (until_seconds // slot_seconds)
    slot_ms, end_ms = slot_seconds * 1000, until_seconds * 1000
    processes: list[Iterator[float]] = [even_places(start) for start in (0.1, 0.3, 0.35, 0.9)]

    def renewed_at(at: int, number: int) -> int:
        counts[at // slot_ms] += 1
        now = START_MS + at
        place = next(processes[number % 4])
        return renew_ms(place, now, now + lifetime_seconds * 1000, CADENCE) - START_MS

    due = [(renewed_at(0, number), number) for number in range(accounts)]
    heapify(due)
    while (at := due[0][0]) < end_ms:
        heapreplace(due, (renewed_at(at, due[0][1]), due[0][1]))
    return counts


@pytest.fixture(scope="module")
def minutes() -> list[int]:
    """Exchanges in each minute of the day on which the fleet was onboarded at once."""
    return exchanges(FLEET, LIFETIME_SECONDS, 24 * 3600, 60)


@pytest.mark.parametrize(
    ("first", "last", "most"),
    [(2, 8, 1.7), (8, 14, 1.25), (14, 24, 1.1)],
)
def test_a_hundred_thousand_onboarded_at_once_are_spread_within_a_day(
    minutes: list[int], first: int, last: int, most: float
) -> None:
    """The busiest minute over the steady mean, accounts by usable lifetime; and over the mean of
    the same hours, which asks more once the waves are gone.
    """
    span = minutes[first * 60 : last * 60]
    peak, own = max(span) / STEADY_PER_MINUTE, max(span) / (sum(span) / len(span))
    sys.stdout.write(
        f"\nhours {first}-{last}: {peak:.3f} of the steady mean in the busiest minute"
        f" ({own:.3f} of these hours' own)\n"
    )
    assert max(peak, own) <= most


def test_the_forecast_foretells_the_waves_of_a_fleet_onboarded_at_once(minutes: list[int]) -> None:
    onboarded = [FLEET] + [0] * 287
    foretold = hourly_calls(onboarded, 300, LIFETIME_SECONDS, 1, CADENCE)
    counted = [sum(minutes[hour * 60 : hour * 60 + 60]) / 3600 for hour in range(24)]
    assert foretold == pytest.approx(counted, abs=1)  # a slot's own width
    assert foretold[5:] == pytest.approx(counted[5:], rel=0.03)


def test_three_hundred_tokens_of_20_seconds_are_spread_after_five_cycles() -> None:
    """At most twice the mean of 36 in any second for ten minutes; chance alone makes 1.5 of it."""
    cycle = usable_seconds(20, CADENCE)
    seconds = exchanges(300, 20, 600, 1)[round(5 * cycle) :]
    peak = max(seconds) / (300 / cycle)
    sys.stdout.write(f"\n20 s tokens: {peak:.3f} of the steady mean in the busiest second\n")
    assert peak <= 2
