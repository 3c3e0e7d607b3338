"""How many upstream calls a fleet needs: pure arithmetic of accounts, lifetime and window."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import ceil, floor
from typing import Any

from .renewal import Cadence, window


def usable_seconds(lifetime_seconds: float, cadence: Cadence) -> float:
    """How long a token is used before it is renewed: the mean of its window, in seconds."""
    return sum(window(lifetime_seconds, cadence)) / 2


def needed_per_second(
    accounts: int, calls_per_exchange: int, lifetime_seconds: float, cadence: Cadence
) -> float:
    """Upstream calls a second that keep `accounts` fresh, on average."""
    return accounts * calls_per_exchange / usable_seconds(lifetime_seconds, cadence)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a fleet asks of the upstream, beside what the rate limit allows, in calls a second."""

    accounts: int
    calls_per_exchange: int
    lifetime_seconds: float
    usable_seconds: float
    rate_limit: float
    needed_per_second: float  # on average
    hourly: tuple[float, ...] = ()  # mean of each of the next 24 hours; empty for a what-if

    @property
    def fits(self) -> bool:
        """Whether the limit allows what is needed on average."""
        return self.needed_per_second <= self.rate_limit

    @property
    def peak_per_second(self) -> float:
        """The busiest coming hour's calls a second; the average where no hour is known."""
        return max(self.hourly, default=self.needed_per_second)

    @property
    def sentence(self) -> str:
        """The sum and its verdict, for an operator."""
        limit = f"{self.rate_limit:,.10g}"
        need = (
            f"{_counted(self.accounts, 'account')} × "
            f"{_counted(self.calls_per_exchange, 'call')}"
            f" ÷ {_figure(self.usable_seconds)} s of use"
            f" = {_figure(self.needed_per_second)} calls a second"
        )
        if not self.fits:
            most = floor(self.rate_limit * self.usable_seconds / self.calls_per_exchange)
            return (
                f"{need}: will not fit into {limit} a second; raise SUBTOKENS_RATE_LIMIT"
                f" to {ceil(self.needed_per_second)}, or serve at most {_counted(most, 'account')}."
            )
        if self.peak_per_second > self.rate_limit:
            hour = self.hourly.index(self.peak_per_second) + 1
            return (
                f"{need}: fits into {limit} a second on average, but hour {hour} from now needs"
                f" {_figure(self.peak_per_second)} a second: renewals then run late."
            )
        return f"{need}: fits into {limit} a second."

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with the verdict."""
        return asdict(self) | {
            "hourly": list(self.hourly),
            "fits": self.fits,
            "peak_per_second": self.peak_per_second,
            "sentence": self.sentence,
        }


def hourly_calls(
    due_counts: Sequence[int],
    slot_seconds: float,
    lifetime_seconds: float,
    calls_per_exchange: int,
    cadence: Cadence,
) -> tuple[float, ...]:
    """Upstream calls a second in each of the next 24 hours, if every renewal is on time.

    `due_counts[i]` accounts are next due in slot i from now, what is overdue in slot 0; the slots
    make up 24 hours, and whole ones an hour.
    """
    opens, closes = (s / slot_seconds for s in window(lifetime_seconds, cadence))
    if opens < 1:  # renewed again within the slot: no wave is left to see
        steady = needed_per_second(sum(due_counts), calls_per_exchange, lifetime_seconds, cadence)
        return (steady,) * 24
    done = [0.0]  # renewals by the end of each slot
    for slot, due in enumerate(due_counts):
        # Spread evenly, what was renewed between a window's close and its opening ago is due now.
        middle = slot + 0.5
        again = (_by(done, middle - opens) - _by(done, middle - closes)) / (closes - opens)
        done.append(done[-1] + due + again)
    at_hours = done[:: round(3600 / slot_seconds)]
    return tuple((end - start) * calls_per_exchange / 3600 for start, end in pairwise(at_hours))


def _by(done: list[float], slots: float) -> float:
    """Renewals done by an instant in slots from now, nothing before now."""
    whole, part = divmod(max(0.0, slots), 1)
    before, after = done[int(whole)], done[min(int(whole) + 1, len(done) - 1)]
    return before + (after - before) * part


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
