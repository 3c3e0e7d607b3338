"""What the demo shows: a progress bar, renewals live, and a table of what the sandbox counted."""

import json
import os
import signal
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from uuid import uuid4

from celery import Celery, chain
from celery.states import READY_STATES
from rich.console import Console
from rich.table import Table

from ...tasks.runtime import runtime
from ...tasks.tokens.forecast import needed_per_second
from ...tasks.tokens.renewal import Cadence
from ..cli.runs import follow
from ..sandbox import SandboxOptions
from .live import watch
from .parts import DemoFailedError, demo_parts

_LATENCY_SECONDS = 0.05
_SHORTEST_LIFETIME_SECONDS = 20
_TASK_SECONDS = 60.0
_NEXT = f"""\
Next, with your own credentials: put SUBTOKENS_PARTNER_ID, SUBTOKENS_CLIENT_ID
and SUBTOKENS_CLIENT_SECRET into .env (.env.example names all settings), then
  {Path(sys.executable).parent}/subtokens up"""


def run_demo(accounts: int, rate: float, watch_seconds: float) -> int:
    """Run the demo; returns 0 only if every sub-account was served, and never went without."""
    console = Console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    lifetime = _shortest_lifetime_that_fits(accounts, rate)
    options = SandboxOptions(
        accounts=accounts, latency_seconds=_LATENCY_SECONDS, lifetime_seconds=lifetime
    )
    console.print(
        f"A local Dintero with {accounts} sub-accounts, {_LATENCY_SECONDS * 1000:g} ms a call, "
        f"tokens of {lifetime} s; Celery workers, together at most {rate:g} calls a second."
    )
    with demo_parts(options, rate) as environment:
        os.environ.update(environment)
        return _show(console, options, watch_seconds)


def _shortest_lifetime_that_fits(accounts: int, rate: float) -> int:
    """So short that one sees renewals, and so long that the rate allows them."""
    cadence, lifetime = Cadence(attempt_seconds=10), _SHORTEST_LIFETIME_SECONDS
    while needed_per_second(accounts, 1, lifetime, cadence) > rate / 2:
        lifetime += 5
    return lifetime


def _show(console: Console, options: SandboxOptions, watch_seconds: float) -> int:
    import subtokens

    from .batch import app, read_all_settings

    app.set_default()
    accounts = options.accounts
    discovery, run_id, batch = (str(uuid4()) for _ in range(3))
    fleet = runtime().fleet()
    prefix = fleet.partner.partner_id[:4]
    account_ids = [f"{prefix}{number:05d}" for number in range(1, accounts + 1)]
    started_at = time.monotonic()
    chain(
        subtokens.discover.si().set(task_id=discovery),
        subtokens.fan_out.si().set(task_id=run_id),
        read_all_settings.si(account_ids).set(task_id=batch),
    ).apply_async()
    discovered = _result(app, discovery)
    console.print(f"Discovered: {discovered['listed']} sub-accounts.")
    summary = follow(fleet, run_id, console)
    seconds = time.monotonic() - started_at
    accepted = _result(app, batch)
    fleet_now, seen = watch(console, fleet, account_ids, watch_seconds)
    stats = _report("stats")
    settings: dict[str, int] = stats["settings"]
    lapsed = _accounts_ever_without(_report("calls"), options.lifetime_seconds)

    table = Table(title="What the sandbox counted", show_header=False)
    table.add_row("sub-accounts with a token", f"{summary.done} of {accounts}")
    table.add_row("  in seconds", f"{seconds:.1f}")
    table.add_row("  a second", f"{accounts / seconds:.0f}")
    table.add_row("batch calls accepted", f"{settings['accepted']} of {accounts}")
    table.add_row("  with distinct tokens", str(settings["tokens"]))
    table.add_row("exchanges, renewals with them", str(stats["calls"]["exchange"]))
    table.add_row("  renewals", str(fleet_now.renewed))
    table.add_row("most calls in any second", str(stats["max_calls_in_any_second"]))
    table.add_row("accounts ever without a valid token", str(max(lapsed, fleet_now.lapses)))
    console.print(table)
    served = summary.done == accepted == settings["accepted"] == settings["accounts"] == accounts
    is_true = (
        served
        and settings["tokens"] == accounts
        and lapsed == fleet_now.lapses == seen.misses == 0
        and (fleet_now.renewed > 0 or watch_seconds < options.lifetime_seconds / 2)
    )
    console.print(_NEXT if is_true else "Not every sub-account was served.", soft_wrap=True)
    return 0 if is_true else 1


def _accounts_ever_without(calls: list[list[Any]], lifetime_seconds: int) -> int:
    """By the sandbox's count: accounts whose next exchange came when the last token had ended."""
    last: dict[str, float] = {}
    lapsed: set[str] = set()
    for _, at, kind, account, status in calls:
        if kind == "exchange" and status == 200:
            if at - last.get(account, at) > lifetime_seconds:
                lapsed.add(account)
            last[account] = at
    return len(lapsed)


def _result(app: Celery, task_id: str) -> Any:  # noqa: ANN401 - whatever the task returns
    deadline = time.monotonic() + _TASK_SECONDS
    while (meta := app.backend.get_task_meta(task_id))["status"] not in READY_STATES:
        if time.monotonic() > deadline:
            raise DemoFailedError(f"no worker finished task {task_id} in {_TASK_SECONDS:g} s")
        time.sleep(0.05)
    if meta["status"] != "SUCCESS":
        raise DemoFailedError(f"task {task_id} failed: {meta['result']}")
    return meta["result"]


def _report(name: str) -> Any:  # noqa: ANN401 - JSON
    sandbox = os.environ["SUBTOKENS_BASE_URL"].removesuffix("/v1")
    with urllib.request.urlopen(f"{sandbox}/__sandbox/{name}") as answer:  # noqa: S310 - http
        return json.load(answer)
