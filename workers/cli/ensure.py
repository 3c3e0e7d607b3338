"""`subtokens ensure`: readiness for a job that cron starts; the exit code tells."""

import json
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer
from rich.console import Console

from ...config.durations import seconds_of
from ...tasks.ensure import attach_needed, judged
from ...tasks.errors import RunFailedError
from ...tasks.fleet import Fleet
from ...tasks.look import look
from ...tasks.runtime import runtime
from ...tasks.tokens.runs import RunSummary
from ...tasks.tokens.selection import Selection
from ...tasks.waiting import LONGEST_TIMEOUT_SECONDS, share_of
from ..application import command_line_app
from .accounts import AsJson
from .exchange import chosen_ids, follow


def ensure(
    valid_for: Annotated[str, typer.Option(help="how long all tokens must last: 2h, 90m")],
    account_ids: Annotated[
        list[str] | None,
        typer.Argument(help="ids; all that are enrolled if none", show_default=False),
    ] = None,
    file: Annotated[Path | None, typer.Option(help="CSV, or one id a line; - reads stdin")] = None,
    selection: Annotated[str | None, typer.Option(help="a stored selection's name")] = None,
    policy: Annotated[str, typer.Option(help="all, or the least share of accounts")] = "all",
    timeout: Annotated[
        float | None, typer.Option(help="seconds at most", min=0.1, max=LONGEST_TIMEOUT_SECONDS)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """See to it that all tokens last, and wait for it; exit code 1 if the policy is not met.

    Example: subtokens ensure --valid-for 2h --policy 0.995 && settle-all
    """
    share, seconds = share_of(policy), seconds_of(valid_for)
    process = runtime()
    fleet = process.fleet()
    ids = None
    if account_ids or file is not None:
        ids = chosen_ids(account_ids or [], file, fleet.partner.partner_id)
    chosen = Selection(fleet.store, ids, selection)
    timeout_seconds = timeout or process.settings.run_timeout_seconds
    summary = _run(fleet, chosen, seconds, timeout_seconds)
    verdict = process.call(judged(fleet, summary, chosen, seconds, share))
    has_failed = isinstance(verdict, RunFailedError)
    counts = verdict.summary if isinstance(verdict, RunFailedError) else verdict
    if as_json:
        typer.echo(json.dumps(counts))
    else:
        ready = f"{counts['valid']} of {counts['accounts']} accounts have a token"
        failed = f"failed: {counts['failed'] or 'none'}, late: {counts['open']}"
        typer.echo(f"{ready} for {seconds:g} s more; {counts['done']} were exchanged, {failed}")
    if has_failed:
        raise typer.Exit(1)


def _run(
    fleet: Fleet, chosen: Selection, valid_for_seconds: float, timeout_seconds: float
) -> RunSummary:
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
