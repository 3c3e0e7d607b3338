"""What the demo shows: a progress bar, and a table of what the sandbox counted."""

import json
import os
import signal
import time
import urllib.request
from types import FrameType
from typing import Any, NoReturn
from uuid import uuid4

from celery import Celery, chain
from celery.states import READY_STATES
from rich.console import Console
from rich.table import Table

from ...tasks.runtime import runtime
from ..cli.exchange import follow
from ..sandbox import SandboxOptions
from .parts import DemoFailedError, Parts, demo_parts

_LATENCY_SECONDS = 0.05
_TASK_SECONDS = 60.0
_NEXT = """\
Next, with your own credentials: cp .env.example .env, fill in three values, then
  celery -A subtokens.workers worker -B      # workers and beat, your Redis
  subtokens accounts discover && subtokens exchange --all && subtokens status"""


def run_demo(accounts: int, rate: float) -> int:
    """Run the demo; returns 0 only if every sub-account was served with a token of its own."""
    console = Console()
    signal.signal(signal.SIGTERM, _interrupt)
    options = SandboxOptions(accounts=accounts, latency_seconds=_LATENCY_SECONDS)
    console.print(
        f"A local Dintero with {accounts} sub-accounts, {_LATENCY_SECONDS * 1000:g} ms a call; "
        f"two Celery workers, together at most {rate:g} calls a second."
    )
    with demo_parts(options, rate) as parts:
        os.environ.update(parts.environment)
        return _show(console, parts, accounts)


def _show(console: Console, parts: Parts, accounts: int) -> int:
    import subtokens

    from .batch import app, read_all_settings

    app.set_default()
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
    console.print(f"Discovered: {discovered['enrolled']} sub-accounts.")
    summary = follow(fleet, run_id, console)
    seconds = time.monotonic() - started_at
    accepted = _result(app, batch)
    stats = _stats(parts)
    settings: dict[str, int] = stats["settings"]

    table = Table(title="What the sandbox counted", show_header=False)
    table.add_row("sub-accounts with a token", f"{summary.done} of {accounts}")
    table.add_row("upstream calls", str(sum(stats["calls"].values()) - stats["calls"]["settings"]))
    table.add_row("  of them exchanges", str(stats["calls"]["exchange"]))
    table.add_row("seconds", f"{seconds:.1f}")
    table.add_row("accounts per second", f"{accounts / seconds:.0f}")
    table.add_row("batch calls accepted", f"{settings['accepted']} of {accounts}")
    table.add_row("  with distinct tokens", str(settings["tokens"]))
    console.print(table)
    is_true = (
        summary.done
        == accepted
        == settings["accepted"]
        == settings["accounts"]
        == settings["tokens"]
        == stats["calls"]["exchange"]
        == accounts
    )
    console.print(_NEXT if is_true else "Not every sub-account was served.", soft_wrap=True)
    return 0 if is_true else 1


def _result(app: Celery, task_id: str) -> Any:  # noqa: ANN401 - whatever the task returns
    deadline = time.monotonic() + _TASK_SECONDS
    while (meta := app.backend.get_task_meta(task_id))["status"] not in READY_STATES:
        if time.monotonic() > deadline:
            raise DemoFailedError(f"no worker finished task {task_id} in {_TASK_SECONDS:g} s")
        time.sleep(0.05)
    if meta["status"] != "SUCCESS":
        raise DemoFailedError(f"task {task_id} failed: {meta['result']}")
    return meta["result"]


def _stats(parts: Parts) -> dict[str, Any]:
    with urllib.request.urlopen(f"{parts.sandbox_url}/__sandbox/stats") as answer:  # noqa: S310
        stats: dict[str, Any] = json.load(answer)
    return stats


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
