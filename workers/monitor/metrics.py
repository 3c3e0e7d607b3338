"""The fleets as Prometheus has it: gauges, counters, and a bounded number of series a partner."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ...tasks.dintero.errors import Blame
from ...tasks.tokens.status import HORIZON_SECONDS
from .fleets import Fleets, Seen

# Who else stands in quarantine does so for "other": a store's text must not make a series.
REASONS = (*(f"refused_{status}" for status in (400, 401, 403, 404, 409, 410, 422)), "other")
BUCKETS = {name: name.replace(" min", "m").replace(" ", "") for name in HORIZON_SECONDS}
BLAMES = tuple(str(blame) for blame in (Blame.UPSTREAM, Blame.CREDENTIAL, Blame.US))


class Family(NamedTuple):
    """One metric: how it is told, and what it is for a fleet, by the value of its label."""

    name: str
    help: str
    values: Callable[[Seen], dict[str, float]]
    label: str = ""


def _of(field: str) -> Callable[[Seen], dict[str, float]]:
    return lambda seen: {"": float(getattr(seen.status, field))}


def _instant(field: str) -> Callable[[Seen], dict[str, float]]:
    def told(seen: Seen) -> dict[str, float]:
        instant: datetime | None = getattr(seen.status, field)
        return {"": instant.timestamp() if instant else 0.0}

    return told


def _by_state(seen: Seen) -> dict[str, float]:
    status = seen.status
    assert status  # noqa: S101 - nobody asks for the values of a fleet that was not read
    return {
        "fresh": status.fresh,
        "stale": status.stale,
        "expired": status.expired,
        "never": status.never_exchanged,
    }


def _by_reason(seen: Seen) -> dict[str, float]:
    assert seen.status  # noqa: S101
    told = dict.fromkeys(REASONS, 0.0)
    for reason, count in seen.status.quarantined.items():
        told[reason if reason in told else "other"] += count
    return told


def _by_expiry(seen: Seen) -> dict[str, float]:
    assert seen.status  # noqa: S101
    return {BUCKETS.get(name, name): n for name, n in seen.status.expiring.items()}


def _by_blame(seen: Seen) -> dict[str, float]:
    assert seen.status  # noqa: S101
    return {blame: float(seen.status.barred_by == blame) for blame in BLAMES}


def _by_lane(field: str) -> Callable[[Seen], dict[str, float]]:
    return lambda seen: dict(getattr(seen.status, field))


GAUGES = (
    Family("subtokens_accounts_enrolled", "Accounts that are kept.", _of("enrolled")),
    Family(
        "subtokens_accounts",
        "Accounts by the state of their token; those in quarantine while it lives.",
        _by_state,
        "state",
    ),
    Family(
        "subtokens_accounts_quarantined",
        "Accounts given up for now, by the answer that they meet.",
        _by_reason,
        "reason",
    ),
    Family("subtokens_accounts_failing", "Accounts whose last attempt failed.", _of("failing")),
    Family(
        "subtokens_accounts_held_back",
        "Accounts that Dintero no longer lists, too many to drop without a word.",
        _of("held_back"),
    ),
    Family(
        "subtokens_tokens",
        "Valid tokens by how long they live; no token is in two of these.",
        _by_expiry,
        "expires_within",
    ),
    Family("subtokens_due", "Accounts that wait for a worker.", _by_lane("due_by_lane"), "lane"),
    Family(
        "subtokens_oldest_due_seconds",
        "For how long the oldest of them has waited.",
        _by_lane("oldest_due_seconds_by_lane"),
        "lane",
    ),
    Family("subtokens_claimed", "Accounts being exchanged now.", _of("claimed")),
    Family(
        "subtokens_circuit_open",
        "1 while nobody calls but a prober, by whose fault it is.",
        _by_blame,
        "blame",
    ),
    Family("subtokens_pause_seconds", "Nobody calls for that long.", _of("paused_seconds")),
    Family(
        "subtokens_last_sweep_timestamp_seconds",
        "When the due accounts were last looked at; 0 if never.",
        _instant("last_sweep_at"),
    ),
    Family(
        "subtokens_last_discovery_timestamp_seconds",
        "When Dintero's list was last walked; 0 if never.",
        _instant("last_discovery_at"),
    ),
    Family("subtokens_open_runs", "Runs that somebody waits for.", _of("open_runs")),
    Family(
        "subtokens_workers_alive",
        "Worker processes that looked at the fleet within a minute.",
        _of("workers_alive"),
    ),
    Family(
        "subtokens_forecast_known",
        "1 if the coming day is foretold; 0 before a first token, or where none may be read.",
        lambda seen: {"": float(seen.forecast is not None)},
    ),
    Family(
        "subtokens_forecast_needed_calls_per_second",
        "Upstream calls that keep the fleet fresh, on average; 0 if unknown.",
        lambda seen: {"": seen.forecast.needed_per_second if seen.forecast else 0.0},
    ),
    Family(
        "subtokens_forecast_fits",
        "1 if the rate limit allows for them; 1 if unknown.",
        lambda seen: {"": float(seen.forecast is None or seen.forecast.fits)},
    ),
)
COUNTERS = (
    Family("subtokens_first_exchanges", "Accounts' first tokens.", _of("exchanged")),
    Family("subtokens_renewals", "Tokens that followed.", _of("renewed")),
    Family("subtokens_failures", "Attempts that brought no token.", _of("failed")),
    Family("subtokens_lapses", "Tokens that ended before the next was there.", _of("lapses")),
    Family(
        "subtokens_uncovered_account_seconds",
        "Account-seconds without a valid token after a first one.",
        _of("uncovered_seconds"),
    ),
    Family(
        "subtokens_onboarding_account_seconds",
        "Account-seconds from enrolment to the first token.",
        _of("onboarding_seconds"),
    ),
    Family(
        "subtokens_quarantined_account_seconds",
        "Account-seconds without a valid token in quarantine.",
        _of("quarantined_seconds"),
    ),
)


class FleetCollector(Collector):
    """Reads the fleets when it is scraped. What cannot be read is `subtokens_up 0`, no error."""

    def __init__(self, fleets: Fleets) -> None:
        self._fleets = fleets

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that to register it reads nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every metric of every partner."""
        seen = self._fleets.seen()
        up = GaugeMetricFamily(
            "subtokens_up", "1 if the fleet could be read from Redis.", labels=["partner"]
        )
        for one in seen:
            up.add_metric([one.partner_id], float(one.status is not None))
        yield up
        read = [one for one in seen if one.status]
        for kind, families in ((GaugeMetricFamily, GAUGES), (CounterMetricFamily, COUNTERS)):
            for family in families:
                yield _filled(kind, family, read)


def _filled(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily], family: Family, read: list[Seen]
) -> Metric:
    labels = ["partner", family.label] if family.label else ["partner"]
    metric = kind(family.name, family.help, labels=labels)
    for seen in read:
        for value, figure in family.values(seen).items():
            metric.add_metric([seen.partner_id, value] if value else [seen.partner_id], figure)
    return metric
