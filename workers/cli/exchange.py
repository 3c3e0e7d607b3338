"""`subtokens exchange`: get tokens now, for one account, some or all."""

import time
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ...config.errors import InputError
from ...config.ids import checked_account_ids
from ...tasks.fleet import Fleet
from ...tasks.look import look
from ...tasks.runtime import runtime
from ...tasks.tokens.runs import RunSummary
from ...tasks.tokens.status import fleet_status
from ...tasks.waiting import LONGEST_TIMEOUT_SECONDS
from ..application import command_line_app
from .account_file import accounts_of, content_of

_POLL_SECONDS = 0.1
_NO_WORKER_SECONDS = 5.0


def exchange(
    account_ids: Annotated[
        list[str] | None, typer.Argument(help="ids such as T11200001", show_default=False)
    ] = None,
    file: Annotated[Path | None, typer.Option(help="CSV, or one id a line; - reads stdin")] = None,
    all_: Annotated[bool, typer.Option("--all", help="every enrolled account")] = False,
    retry: Annotated[
        bool, typer.Option(help="also those that back off or are in quarantine; alone: only those")
    ] = False,
    wait: Annotated[bool, typer.Option(help="wait for the end, with a progress bar")] = True,
    timeout: Annotated[
        float | None,
        typer.Option(
            help="seconds until the run ends with what it has", min=0.1, max=LONGEST_TIMEOUT_SECONDS
        ),
    ] = None,
) -> None:
    """Exchange for enrolled accounts now, whatever their tokens; the workers do it.

    Example: subtokens exchange T11200001 T11200002
    """
    process = runtime()
    fleet = process.fleet()
    if retry and not (account_ids or file or all_):
        chosen: list[str] | None = process.call(fleet.store.failing())
        if not chosen:
            typer.echo("no account's last attempt failed")
            return
    else:
        chosen = _chosen(account_ids or [], file, fleet.partner.partner_id, everything=all_)
    run_id = str(uuid4())
    timeout_seconds = timeout or process.settings.run_timeout_seconds
    process.call(_start(fleet, run_id, chosen, timeout_seconds, is_retry=retry))
    process.call(look(fleet, command_line_app()))
    if not wait:
        typer.echo(run_id)
        return
    summary = follow(fleet, run_id, Console(stderr=True))
    typer.echo(str(summary))
    if not summary.meets(1.0):
        raise typer.Exit(1)


async def _start(
    fleet: Fleet, run_id: str, chosen: list[str] | None, timeout_seconds: float, *, is_retry: bool
) -> None:
    await fleet.runs.open(run_id, timeout_seconds, continuation="")
    if chosen is None:
        await fleet.runs.request_all(run_id, is_retry=is_retry)
    else:
        await fleet.runs.request(run_id, chosen, is_retry=is_retry)
    await fleet.runs.seal(run_id)


def follow(fleet: Fleet, run_id: str, console: Console) -> RunSummary:
    """Show a run's progress until it has ended; returns how."""
    call = runtime().call
    started_at = time.monotonic()
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
                    rate = call(_why_nothing_happens(fleet))
                progress.update(bar, total=summary.accounts, completed=settled, rate=rate)
                if summary.ended:
                    return summary
            time.sleep(_POLL_SECONDS)


async def _why_nothing_happens(fleet: Fleet) -> str:
    status = await fleet_status(fleet.store, fleet.rate.per_second)
    if status.paused_seconds or status.barred_by:
        return f"paused: {status.pause_reason}"
    return "is a worker running? celery -A subtokens.workers worker"


def _chosen(
    account_ids: list[str], file: Path | None, partner_id: str, *, everything: bool
) -> list[str] | None:
    if [bool(account_ids), file is not None, everything].count(True) != 1:
        raise InputError("name account ids, or --file, or --all, or --retry: one of them")
    return None if everything else chosen_ids(account_ids, file, partner_id)


def chosen_ids(account_ids: list[str], file: Path | None, partner_id: str) -> list[str]:
    """The ids as they stand, or those of a file. Raises InputError that names each bad line."""
    if file is None:
        return checked_account_ids(account_ids, partner_id)
    return list(accounts_of(content_of(file), str(file), partner_id).names)
