"""The fleet in words and figures, once or again and again, and the coming day."""

import json
import time
from contextlib import suppress
from datetime import UTC, datetime

import typer
from redis.exceptions import RedisError
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ...config.errors import InputError
from ...tasks.fleet import Fleet
from ...tasks.runtime import runtime
from ...tasks.tokens.forecast import Forecast, needed_per_second, usable_seconds
from ...tasks.tokens.status import FleetStatus
from ..fleets import chosen_fleets, forecast_of, status_of
from .explain import in_words
from .terminal import answers, say

_Seen = tuple[FleetStatus, Forecast | None]
_BAR_CELLS = 30
_FAULTS = {"upstream": "the upstream", "credential": "our credential", "us": "our settings"}


def once(*, as_json: bool) -> None:
    """Show how each partner's fleet stands. Raises redis.RedisError."""
    seen = _look()
    if as_json:
        typer.echo(_json(seen))
    else:
        answers().print(_picture(seen))


def watch(every_seconds: float, *, as_json: bool) -> None:
    """Show it again and again until Ctrl-C. Raises InputError where nothing can be redrawn."""
    console = answers()
    if not (as_json or console.is_terminal):
        raise InputError("--watch redraws a terminal; into a pipe: --watch --json, a line a look")
    with suppress(KeyboardInterrupt):  # its usual end
        if as_json:
            while True:
                typer.echo(_json(_look()))
                time.sleep(every_seconds)
        with Live(_picture_of_now(), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(every_seconds)
                try:
                    live.update(_picture_of_now(), refresh=True)
                except RedisError as error:  # it may come back: a fail-over is worth watching
                    live.update(Text(f"Redis cannot be asked: {error}"), refresh=True)


def forecast(
    accounts: int | None, rate: float | None, lifetime: float | None, *, as_json: bool
) -> Forecast:
    """Show the coming day, or what it would be with other figures; returns it."""
    fleet, call = runtime().fleet(), runtime().call
    if accounts is None and rate is None and lifetime is None:
        coming = call(forecast_of(fleet))
    else:
        coming = call(_what_if(fleet, accounts, rate, lifetime))
    if coming is None:
        raise InputError("no token was stored yet: name --lifetime, and --accounts")
    if as_json:
        typer.echo(json.dumps(coming.as_dict()))
    else:
        _show_forecast(coming)
    return coming


def _look() -> list[_Seen]:
    call = runtime().call
    return [(call(status_of(fleet)), call(forecast_of(fleet))) for fleet in chosen_fleets()]


def _json(seen: list[_Seen]) -> str:
    told = [now.as_dict() | {"forecast": coming and coming.as_dict()} for now, coming in seen]
    return json.dumps(told[0] if len(told) == 1 else told)


def _picture(seen: list[_Seen]) -> Group:
    parts = list[RenderableType]()
    for now, coming in seen:
        parts.append(_table(now))
        parts += [Text(coming.sentence)] if coming else []
    return Group(*parts)


def _picture_of_now() -> Group:
    told_at = Text(f"{datetime.now(UTC):%H:%M:%S} UTC; Ctrl-C ends it", style="dim")
    return Group(_picture(_look()), told_at)


async def _what_if(
    fleet: Fleet, accounts: int | None, rate: float | None, lifetime: float | None
) -> Forecast | None:
    seen = None if accounts is not None and lifetime is not None else await forecast_of(fleet)
    if seen:
        accounts = seen.accounts if accounts is None else accounts
        lifetime = lifetime or seen.lifetime_seconds
    if accounts is None or lifetime is None:
        return None
    calls, cadence = fleet.partner.calls_per_exchange, fleet.exchanger.cadence
    return Forecast(
        accounts,
        calls,
        lifetime,
        usable_seconds(lifetime, cadence),
        rate or fleet.rate.per_second,
        needed_per_second(accounts, calls, lifetime, cadence),
    )


def _table(fleet: FleetStatus) -> Table:
    table = Table(show_header=False, box=None, title=f"partner {fleet.partner_id}")
    for name, words in _rows(fleet):
        table.add_row(name, words)
    return table


def _rows(fleet: FleetStatus) -> list[tuple[str, str]]:
    accounts = f"{fleet.enrolled:,} enrolled, {fleet.never_exchanged:,} without a first token"
    valid = f"{fleet.valid:,} valid ({fleet.fresh:,} fresh, {fleet.stale:,} stale)"
    failing = f"{fleet.failing:,}; quarantined: {_counted(fleet.quarantined) or 'none'}"
    so_far = f"{fleet.exchanged:,} first tokens, {fleet.renewed:,} renewals"
    rows = [
        ("accounts", accounts),
        ("tokens", f"{valid}, {fleet.expired:,} expired"),
        ("expiring", _horizon(fleet)),
        ("due", _due(fleet)),
        ("failing", failing),
        ("uncovered", _uncovered(fleet)),
        ("so far", f"{so_far}, {fleet.failed:,} failures"),
        ("last sweep", _ago(fleet.last_sweep_at)),
        ("last discovery", _ago(fleet.last_discovery_at)),
    ]
    if fleet.held_back:
        held_back = f"{fleet.held_back:,} that Dintero no longer lists; see accounts discover"
        rows.append(("held back", held_back))
    if fleet.open_runs:
        rows.append(("open runs", str(fleet.open_runs)))
    if fleet.barred_since:
        fault = _FAULTS.get(fleet.barred_by, fleet.barred_by)
        since = f"since {fleet.barred_since:%H:%M:%S} UTC, by the fault of {fault}"
        again = f"tried again in {in_words(fleet.paused_seconds)}"
        rows.append(("no calls", f"{since}: {fleet.pause_reason}; {again}"))
    elif fleet.paused_seconds:
        rows.append(("paused", f"for {in_words(fleet.paused_seconds)}: {fleet.pause_reason}"))
    return rows


def _due(fleet: FleetStatus) -> str:
    if not fleet.due:
        return f"none; {fleet.claimed:,} being exchanged"
    return (
        f"{fleet.due:,}, {fleet.overdue:,} overdue, the oldest for "
        f"{in_words(fleet.oldest_due_seconds)}; {fleet.claimed:,} being exchanged; "
        f"done in {in_words(fleet.catch_up_seconds)} by the rate limit"
    )


def _horizon(fleet: FleetStatus) -> str:
    buckets = [
        f"{n:,} within {name}" for name, n in fleet.expiring.items() if n and name != "later"
    ]
    later = fleet.expiring["later"]
    return ", ".join([*buckets, f"{later:,} later"] if later else buckets) or "none"


def _uncovered(fleet: FleetStatus) -> str:
    return (
        f"{fleet.uncovered_seconds:,.1f} account-seconds in {fleet.lapses:,} lapses "
        f"({fleet.quarantined_seconds:,.1f} more in quarantine, "
        f"{fleet.onboarding_seconds:,.1f} before first tokens)"
    )


def _ago(instant: datetime | None) -> str:
    if instant is None:
        return "never"
    return f"{in_words((datetime.now(UTC) - instant).total_seconds())} ago"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))


def _show_forecast(coming: Forecast) -> None:
    console = answers()
    top = max(coming.peak_per_second, coming.rate_limit, 1e-9)
    table = Table("hour", "calls/s", "", box=None)
    for hour, calls in enumerate(coming.hourly, 1):
        bar = "█" * round(calls / top * _BAR_CELLS)
        table.add_row(
            str(hour), f"{calls:.1f}", f"[red]{bar}" if calls > coming.rate_limit else bar
        )
    if coming.hourly:
        console.print(table)
    say(coming.sentence)
