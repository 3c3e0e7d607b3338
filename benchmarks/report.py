"""What was measured, kept as tables of Markdown until `python benchmarks/report.py` joins them."""

import json
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "benchmarks" / "measured"


class Report:
    """The tables of one part; printed as they come, and kept."""

    def __init__(self, part: str) -> None:
        self._file = KEPT / f"{part}.json"
        self._tables: list[dict[str, object]] = []

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        print(f"\n{as_markdown(title, head, rows)}", flush=True)
        self._tables.append({"title": title, "head": list(head), "rows": [list(r) for r in rows]})
        KEPT.mkdir(exist_ok=True)
        self._file.write_text(json.dumps(self._tables, indent=1))


def as_markdown(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"**{title}**", "", "| " + " | ".join(head) + " |"]
    lines.append("|" + "|".join(["---"] + ["---:"] * (len(head) - 1)) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
