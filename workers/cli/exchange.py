"""`subtokens exchange`: get tokens now, for one account, some or all."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ...config.errors import InputError
from .account_file import chosen_ids
from .options import AccountFile, AsJson, Timeout


def exchange(
    account_ids: Annotated[
        list[str] | None, typer.Argument(help="ids such as T11200001", show_default=False)
    ] = None,
    file: AccountFile = None,
    all_: Annotated[bool, typer.Option("--all", help="every enrolled account")] = False,
    retry: Annotated[
        bool,
        typer.Option(
            "--retry",
            help="also those that back off or are in quarantine; alone: only those",
        ),
    ] = False,
    wait: Annotated[bool, typer.Option(help="wait for the end, with a progress bar")] = True,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Exchange for enrolled accounts now, whatever their tokens.

    The workers do it. Exit code 1 if an account got none.

    Example: subtokens exchange T11200001 T11200002

    Example: subtokens exchange --all --no-wait
    """
    from rich.console import Console

    from ...tasks.runtime import runtime
    from ...tasks.tokens.runs import RunSummary
    from .runs import follow, start_exchange
    from .terminal import say

    process = runtime()
    fleet = process.fleet()
    if retry and not (account_ids or file or all_):
        chosen: list[str] | None = process.call(fleet.store.failing())
        if not chosen:
            # While the partner is suspended, no account is punished, and this is how it is mended.
            reason = process.call(fleet.circuit.probe_now())
            probed = f"; Dintero is tried again now, for {reason}" if reason else ""
            none = RunSummary("", fleet.partner.partner_id, 0, 0, {}, 0, ended=True)
            sentence = f"no account's last attempt failed{probed}"
            typer.echo(json.dumps(none.as_dict()) if as_json else sentence)
            return
    else:
        chosen = _chosen(account_ids or [], file, fleet.partner.partner_id, everything=all_)
    timeout_seconds = timeout or process.settings.run_timeout_seconds
    run_id = start_exchange(fleet, chosen, timeout_seconds, is_retry=retry)
    if not wait:
        typer.echo(json.dumps({"run_id": run_id}) if as_json else run_id)
        return
    summary = follow(fleet, run_id, Console(stderr=True))
    if as_json:
        typer.echo(json.dumps(summary.as_dict()))
    else:
        say(str(summary))
    if not summary.meets(1.0):
        raise typer.Exit(1)


def _chosen(
    account_ids: list[str], file: Path | None, partner_id: str, *, everything: bool
) -> list[str] | None:
    if [bool(account_ids), file is not None, everything].count(True) != 1:
        raise InputError("name account ids, or --file, or --all, or --retry: one of them")
    return None if everything else chosen_ids(account_ids, file, partner_id)
