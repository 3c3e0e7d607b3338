"""`subtokens doctor`: what is wrong with a set-up, and how to put it right."""

import asyncio
import io
import sys
from typing import Annotated

import typer

from ..doctor import examine
from ..doctor.finding import Finding
from ..doctor.report import as_json, exit_code_of, last_sentence, lines_of

_COLOURS = {"ok": None, "warning": typer.colors.YELLOW, "failure": typer.colors.RED}


def doctor(
    as_json_: Annotated[bool, typer.Option("--json", help="print JSON for a script")] = False,
    account: Annotated[
        str | None, typer.Option(help="the account to try; the first active one otherwise")
    ] = None,
    calls: Annotated[bool, typer.Option(help="call Dintero, a dozen times at most")] = True,
) -> None:
    """Check settings, Redis, Dintero and workers, and name the remedy for what is wrong.

    Changes nothing. Example: subtokens doctor --account T11200001
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # of a terminal that has no ✓
    findings = asyncio.run(_told(account, with_calls=calls, is_quiet=as_json_))
    typer.echo(as_json(findings) if as_json_ else f"\n{last_sentence(findings)}")
    raise typer.Exit(exit_code_of(findings))


async def _told(account: str | None, *, with_calls: bool, is_quiet: bool) -> list[Finding]:
    findings = []
    async for finding in examine(account, with_calls=with_calls):
        findings.append(finding)
        if not is_quiet:
            typer.secho(lines_of(finding), fg=_COLOURS[finding.level])
    return findings
