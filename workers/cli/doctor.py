"""`subtokens doctor`: what is wrong with a set-up, and how to put it right."""

import asyncio
import io
import sys
from typing import Annotated

import typer

from .options import AsJson


def doctor(
    as_json: AsJson = False,
    account: Annotated[
        str | None, typer.Option(help="the account to try; the first active one otherwise")
    ] = None,
    calls: Annotated[bool, typer.Option(help="call Dintero, a dozen times at most")] = True,
) -> None:
    """Tell what is wrong with a set-up, and its remedy.

    It checks settings, Redis, Dintero and workers, and changes nothing. Its exit code is that of
    the worst that it found.

    Example: subtokens doctor --account T11200001
    """
    from ..doctor import report
    from .terminal import answers, say

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # of a terminal that has no ✓
    console = None if as_json else answers()
    findings = asyncio.run(report.told(account, console, with_calls=calls))
    if as_json:
        typer.echo(report.as_json(findings))
    else:
        say(f"\n{report.last_sentence(findings)}")
    raise typer.Exit(report.exit_code_of(findings))
