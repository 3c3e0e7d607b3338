"""Findings as lines for people and as JSON for scripts, and the exit code that they ask for."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from .finding import Finding

_SYMBOLS = {"ok": "✓", "warning": "!", "failure": "✗"}
_NAME_CELLS = 17


def lines_of(finding: Finding) -> str:
    """A line, and where something is to be done another with the remedy."""
    line = f"{_SYMBOLS[finding.level]} {finding.name:<{_NAME_CELLS}}  {finding.text}"
    return f"{line}\n  → {finding.remedy}" if finding.remedy else line


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
