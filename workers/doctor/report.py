"""Findings as lines for people and as JSON for scripts, and the exit code that they ask for."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from textwrap import fill

from rich.console import Console
from rich.text import Text

from .examination import examine
from .finding import Finding

_SYMBOLS = {"ok": "✓", "warning": "!", "failure": "✗"}
_COLOURS = {"ok": "", "warning": "yellow", "failure": "red"}
_NAME_CELLS = 17


async def told(
    account_id: str | None, console: Console | None, *, with_calls: bool
) -> list[Finding]:
    """Every finding, each printed when it is made. Raises InputError."""
    findings = []
    async for finding in examine(account_id, with_calls=with_calls):
        findings.append(finding)
        if console:
            told = Text(lines_of(finding, console.width), style=_COLOURS[finding.level])
            console.print(told, soft_wrap=True)
    return findings


def lines_of(finding: Finding, width: int) -> str:
    """A line, and where something is to be done another with the remedy; broken at words."""
    indent = " " * (_NAME_CELLS + 4)
    line = f"{_SYMBOLS[finding.level]} {finding.name:<{_NAME_CELLS}}  {finding.text}"
    parts = [(line, indent)] + ([(f"  → {finding.remedy}", "    ")] if finding.remedy else [])
    return "\n".join(
        fill(
            part,
            width,
            subsequent_indent=later,
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
        )
        for part, later in parts
    )


def last_sentence(findings: Sequence[Finding]) -> str:
    """What all of it comes to."""
    counts = Counter(finding.level for finding in findings)
    failures, warnings = (_counted(counts[it], it) for it in ("failure", "warning"))
    if counts["failure"]:
        return f"It does not work: {failures}, {warnings}; what rests on a failure was not tried."
    if counts["warning"]:
        return f"It works, with {warnings}."
    return f"All is well, in {len(findings)} checks."


def _counted(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def exit_code_of(findings: Sequence[Finding]) -> int:
    """The gravest that one of them asks for."""
    return max((finding.exit_code for finding in findings), default=0)


def as_json(findings: Sequence[Finding]) -> str:
    """All of it as one JSON object."""
    told = [asdict(finding) for finding in findings]
    return json.dumps(
        {
            "findings": [{k: v for k, v in row.items() if k != "exit_code"} for row in told],
            "sentence": last_sentence(findings),
            "exit_code": exit_code_of(findings),
        },
        ensure_ascii=False,
    )
