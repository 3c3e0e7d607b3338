"""Runs that a command starts, and follows to their end."""

import time
from uuid import uuid4

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from ...tasks.ensure import attach_needed
from ...tasks.fleet import Fleet
from ...tasks.look import look
from ...tasks.runtime import runtime
from ...tasks.tokens.runs import RunSummary
from ...tasks.tokens.selection import Selection
from ..application import command_line_app
from ..fleets import status_of

_POLL_SECONDS = 0.1
_NO_WORKER_SECONDS = 5.0


def start_exchange(
    fleet: Fleet, account_ids: list[str] | None, timeout_seconds: float, *, is_retry: bool
) -> str:
    """Ask for these accounts, or for all that are enrolled; returns the run's id."""
    run_id, call = str(uuid4()), runtime().call

    async def start() -> None:
        await fleet.runs.open(run_id, timeout_seconds, continuation="")
        if account_ids is None:
            await fleet.runs.request_all(run_id, is_retry=is_retry)
        else:
            await fleet.runs.request(run_id, account_ids, is_retry=is_retry)
        await fleet.runs.seal(run_id)

    call(start())
    call(look(fleet, command_line_app()))
    return run_id


def ensure_all(
    fleet: Fleet, chosen: Selection, valid_for_seconds: float, timeout_seconds: float
) -> RunSummary:
    """Exchange for those of the chosen whose token would not last; returns how it ended."""
    run_id, call, runs = str(uuid4()), runtime().call, fleet.runs
    call(runs.open(run_id, timeout_seconds, continuation=""))
    while True:
        try:
            is_learning = call(
                attach_needed(fleet, run_id, chosen, valid_for_seconds, timeout_seconds)
            )
        except BaseException:
            call(runs.confirm_release(run_id))
            raise
        call(runs.seal(run_id, is_learning=is_learning))
        call(look(fleet, command_line_app()))
        summary = follow(fleet, run_id, Console(stderr=True))
        if not (is_learning and call(runs.reopen(run_id))):
            return summary


def follow(fleet: Fleet, run_id: str, console: Console) -> RunSummary:
    """Show a run's progress until it has ended; returns how."""
    call = runtime().call
    started_at, told = time.monotonic(), ""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("exchanging", total=None, rate="")
        while True:
            call(fleet.runs.ripe())  # the deadline holds even where no worker is left to see it
            summary = call(fleet.runs.summary(run_id))
            elapsed = time.monotonic() - started_at
            if summary is not None:
                settled = summary.accounts - summary.open
                rate = f"{settled / elapsed:.0f}/s" if settled and elapsed > 1 else ""
                if not settled and elapsed > _NO_WORKER_SECONDS:
                    why = call(_why_nothing_happens(fleet))
                    if why != told:
                        progress.print(Text(why))
                        told = why
                progress.update(bar, total=summary.accounts, completed=settled, rate=rate)
                if summary.ended:
                    return summary
            time.sleep(_POLL_SECONDS)


async def _why_nothing_happens(fleet: Fleet) -> str:
    status = await status_of(fleet)
    if status.paused_seconds or status.barred_by:
        return f"paused: {status.pause_reason}"
    return "is a worker running? celery -A subtokens.workers worker"
