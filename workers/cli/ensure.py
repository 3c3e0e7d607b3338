"""`subtokens ensure`: readiness for a job that cron starts; the exit code tells."""

import json
from typing import Annotated

import typer

from ...config.durations import seconds_of
from .account_file import chosen_ids
from .options import AccountFile, AsJson, Timeout


def ensure(
    valid_for: Annotated[str, typer.Option(help="how long all tokens must last: 2h, 90m")],
    account_ids: Annotated[
        list[str] | None,
        typer.Argument(help="ids; all that are enrolled if none", show_default=False),
    ] = None,
    file: AccountFile = None,
    selection: Annotated[str | None, typer.Option(help="a stored selection's name")] = None,
    policy: Annotated[str, typer.Option(help="all, or the least share of accounts")] = "all",
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """See to it that all tokens last, and wait for it.

    Only those that would not last are exchanged. Exit code 1 if the policy is not met.

    Example: subtokens ensure --valid-for 2h --policy 0.995 && settle-all
    """
    from ...tasks.ensure import judged
    from ...tasks.errors import RunFailedError
    from ...tasks.runtime import runtime
    from ...tasks.tokens.selection import Selection
    from ...tasks.waiting import share_of
    from .runs import ensure_all
    from .terminal import say

    share, seconds = share_of(policy), seconds_of(valid_for)
    process = runtime()
    fleet = process.fleet()
    ids = None
    if account_ids or file is not None:
        ids = chosen_ids(account_ids or [], file, fleet.partner.partner_id)
    chosen = Selection(fleet.store, ids, selection, by_message=False)
    timeout_seconds = timeout or process.settings.run_timeout_seconds
    summary = ensure_all(fleet, chosen, seconds, timeout_seconds)
    verdict = process.call(judged(fleet, summary, chosen, seconds, share))
    has_failed = isinstance(verdict, RunFailedError)
    counts = verdict.summary if isinstance(verdict, RunFailedError) else verdict
    if as_json:
        typer.echo(json.dumps(counts))
    else:
        ready = f"{counts['valid']} of {counts['accounts']} accounts have a token"
        failed = f"failed: {counts['failed'] or 'none'}, late: {counts['open']}"
        say(f"{ready} for {seconds:g} s more; {counts['done']} were exchanged, {failed}")
    if has_failed:
        raise typer.Exit(1)
