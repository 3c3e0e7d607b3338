"""The fleets as Prometheus has it: gauges, counters, and a bounded number of series a partner."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import accumulate, product
from typing import Any, NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from ...tasks.dintero.errors import Blame
from ...tasks.tokens.forecast import Forecast
from ...tasks.tokens.lanes import LANES
from ...tasks.tokens.metrics import BOUNDS_SECONDS
from ...tasks.tokens.status import FleetStatus
from .fleets import Seen
from .kept import ATTEMPTS, BUCKETS, CALLS, FAILURES, REJECTIONS

# Whoever else is in quarantine is there for "other": what the store says must make no series.
REASONS = (*(f"refused_{status}" for status in (400, 401, 403, 404, 409, 410, 422)), "other")
BLAMES = (Blame.UPSTREAM, Blame.CREDENTIAL, Blame.US)


def _by_state(now: FleetStatus) -> dict[str, int]:
    of_tokens = {"fresh": now.fresh, "stale": now.stale}
    return of_tokens | {"expired": now.expired, "never": now.never_exchanged}


def _by_reason(now: FleetStatus) -> dict[str, int]:
    told = dict.fromkeys(REASONS, 0)
    for reason, count in now.quarantined.items():
        told[reason if reason in told else "other"] += count
    return told


def _by_expiry(now: FleetStatus) -> dict[str, int]:
    return {name.replace(" min", "m").replace(" ", ""): n for name, n in now.expiring.items()}


def _by_blame(now: FleetStatus) -> dict[str, bool]:
    return {str(blame): now.barred_by == blame for blame in BLAMES}


class Family(NamedTuple):
    """One metric: a field of what was seen, or what makes a figure, or one by label, of it."""

    name: str
    help: str
    source: str | Callable[[Any], Any]
    label: str = ""


GAUGES = (
    Family("accounts_enrolled", "Accounts that are kept.", "enrolled"),
    Family("accounts", "Accounts by token, in quarantine while it lives.", _by_state, "state"),
    Family("accounts_quarantined", "Accounts given up for now.", _by_reason, "reason"),
    Family("accounts_failing", "Accounts whose last attempt failed.", "failing"),
    Family(
        "accounts_held_back", "Accounts that Dintero no longer lists, and are kept.", "held_back"
    ),
    Family("tokens", "Valid tokens; no token is in two of these.", _by_expiry, "expires_within"),
    Family("due", "Accounts that wait for a worker.", "due_by_lane", "lane"),
    Family("oldest_due_seconds", "Longest wait of them.", "oldest_due_seconds_by_lane", "lane"),
    Family("claimed", "Accounts being exchanged now.", "claimed"),
    Family("circuit_open", "1 while nobody calls but a prober.", _by_blame, "blame"),
    Family("pause_seconds", "Nobody calls for that long.", "paused_seconds"),
    Family("last_sweep_timestamp_seconds", "Last look at what is due; 0: never.", "last_sweep_at"),
    Family("last_discovery_timestamp_seconds", "Last listing; 0: never.", "last_discovery_at"),
    Family("open_runs", "Runs that somebody waits for.", "open_runs"),
    Family("workers_alive", "Worker processes that looked within a minute.", "workers_alive"),
    Family("beats_alive", "Beats that sent a sweep within a minute.", "beats_alive"),
)
COUNTERS = (
    Family("lapses", "Tokens that ended before the next was there.", "lapses"),
    Family("uncovered_account_seconds", "Without a token after a first one.", "uncovered_seconds"),
    Family("onboarding_account_seconds", "Enrolment to first token.", "onboarding_seconds"),
    Family("quarantined_account_seconds", "Without a token, given up.", "quarantined_seconds"),
)
FORECAST = (
    Family("forecast_known", "1 if the coming day is foretold.", lambda coming: coming is not None),
    Family(
        "forecast_needed_calls_per_second",
        "Calls that keep the fleet fresh, on average; 0 if unknown.",
        lambda coming: coming.needed_per_second if coming else 0.0,
    ),
    Family(
        "forecast_fits",
        "1 if the rate limit allows for them, or they are unknown.",
        lambda coming: coming is None or coming.fits,
    ),
)


class FleetCollector(Collector):
    """Tells what was seen of the fleets. What could not be read is `subtokens_up 0`, no error."""

    def __init__(self, seen: Sequence[Seen]) -> None:
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        """Every metric of every partner."""
        seen = self._seen
        up = Family("up", "1 if the fleet could be read from Redis.", "")
        yield _filled(GaugeMetricFamily, up, ((one, one.status is not None) for one in seen))
        known = [(one, one.status) for one in seen if one.status]
        for kind, families in ((GaugeMetricFamily, GAUGES), (CounterMetricFamily, COUNTERS)):
            for family in families:
                yield _filled(kind, family, ((one, _value(family, now)) for one, now in known))
        for family in FORECAST:
            told = ((one, _value(family, one.forecast)) for one, _ in known)
            yield _filled(GaugeMetricFamily, family, told)
        counts_of = {one.partner_id: one.metrics for one, _ in known}
        for kept in _COUNTED:
            yield _counted(kept, counts_of)
        for kept in _TIMED:
            yield _timed(kept, counts_of)


class Kept(NamedTuple):
    """A metric by labels, out of what worker processes and scripts have counted."""

    name: str
    help: str
    labels: Sequence[str]
    sources: Mapping[tuple[str, ...], Sequence[str]]  # labels to what is added up


def _counted(kept: Kept, counts_of: Mapping[str, Mapping[str, int]]) -> Metric:
    """The counter of these partners."""
    labels = ["partner", *kept.labels]
    metric = CounterMetricFamily(f"subtokens_{kept.name}", kept.help, labels=labels)
    for (partner_id, counts), (values, names) in product(counts_of.items(), kept.sources.items()):
        metric.add_metric([partner_id, *values], sum(counts.get(name, 0) for name in names))
    return metric


def _timed(kept: Kept, counts_of: Mapping[str, Mapping[str, int]]) -> Metric:
    """The histogram of these partners."""
    labels = ["partner", *kept.labels]
    metric = HistogramMetricFamily(f"subtokens_{kept.name}", kept.help, labels=labels)
    for (partner_id, counts), (values, names) in product(counts_of.items(), kept.sources.items()):
        in_each = [sum(counts.get(f"{name}:{i}", 0) for name in names) for i in BUCKETS]
        told = list(zip(_BOUNDS, map(float, accumulate(in_each)), strict=True))
        seconds = sum(counts.get(f"{name}:us", 0) for name in names) / 1e6
        metric.add_metric([partner_id, *values], told, seconds)
    return metric


_BOUNDS = (*(str(bound) for bound in BOUNDS_SECONDS), "+Inf")
_COUNTED = (
    *(
        Kept(
            f"{kind}s",
            about,
            ("outcome", "attempt"),
            {(a, b): [f"{kind}:{a}:{b}"] for a, b in ATTEMPTS},
        )
        for kind, about in (
            ("exchange", "Attempts at accounts' first tokens."),
            ("renewal", "Attempts at tokens that follow."),
        )
    ),
    Kept(
        "calls",
        "Calls to Dintero.",
        ("call", "outcome"),
        {
            (call, outcome): [f"call:{call}:{outcome}:{i}" for i in BUCKETS]
            for call, outcome in product(CALLS, ("ok", *FAILURES))
        },
    ),
    Kept(
        "rejections",
        "Tokens that readers report as refused.",
        ("outcome",),
        {(outcome.replace(" ", "_"),): [f"rejection:{outcome}"] for outcome in REJECTIONS},
    ),
)
_TIMED = (
    Kept(
        "call_seconds",
        "How long calls to Dintero take.",
        ("call", "outcome"),
        {
            (call, label): [f"call:{call}:{outcome}" for outcome in outcomes]
            for call, (label, outcomes) in product(CALLS, (("ok", ("ok",)), ("failed", FAILURES)))
        },
    ),
    Kept(
        "limiter_wait_seconds",
        "How long calls, and workers that got no permit, wait for the rate limit.",
        ("lane",),
        {(lane,): [f"wait:{lane}"] for lane in LANES},
    ),
)


def _value(family: Family, now: FleetStatus | Forecast | None) -> Any:  # noqa: ANN401 - a figure, or one by label
    return getattr(now, family.source) if isinstance(family.source, str) else family.source(now)


def _filled(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
    family: Family,
    told: Iterable[tuple[Seen, Any]],
) -> Metric:
    labels = ["partner", family.label] if family.label else ["partner"]
    metric = kind(f"subtokens_{family.name}", family.help, labels=labels)
    for seen, value in told:
        if family.label:
            for label, figure in value.items():
                metric.add_metric([seen.partner_id, label], float(figure))
        else:
            metric.add_metric([seen.partner_id], _figure(value))
    return metric


def _figure(value: datetime | float | None) -> float:
    return value.timestamp() if isinstance(value, datetime) else float(value or 0)
