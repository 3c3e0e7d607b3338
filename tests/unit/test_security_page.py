"""SECURITY.md claims what a test holds: each claim leads to tests, and these exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
CLAIMS, _, PROOFS = PAGE.partition("## Proofs\n")
FILE = re.compile(r"tests/\S+\.py")


def proofs() -> dict[int, list[tuple[str, str]]]:
    """The tests of each number, by file and name."""
    found: dict[int, list[tuple[str, str]]] = {}
    for entry in re.split(r"\n(?=\d+\. )", PROOFS.strip()):
        number, _, told = entry.partition(". ")
        file, pairs = "", found.setdefault(int(number), [])
        for name in re.findall(r"`([^`]+)`", told):
            if FILE.fullmatch(name):
                file = name
            else:
                pairs.append((file, name))
    return found


def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_each_number_in_the_page_leads_to_tests_and_each_is_led_to() -> None:
    cited = {
        int(number)
        for numbers in re.findall(r"\[(\d+(?:, \d+)*)\]", CLAIMS)
        for number in numbers.split(", ")
    }
    assert cited == proofs().keys() == set(range(1, len(cited) + 1))
    assert all(proofs().values())


def test_every_test_that_the_page_names_exists() -> None:
    named = [pair for pairs in proofs().values() for pair in pairs]
    assert len(named) >= 20
    assert [pair for pair in named if pair[1] not in functions_of(pair[0])] == []


def test_each_row_of_its_table_says_what_cannot_be_done() -> None:
    rows = [line.strip("| ").split(" | ") for line in CLAIMS.splitlines() if line[:2] == "| "]
    assert len(rows) == 11
    assert all(len(row) == 3 and all(row) for row in rows)
    unproven = [who for who, _, cannot in rows[1:] if not re.search(r"\[\d", cannot)]
    assert unproven == []


def test_the_docs_lead_to_it() -> None:
    for page, link in {
        "README.md": "(SECURITY.md)",
        "docs/deploying.md": "(../SECURITY.md)",
        "docs/flower.md": "(../SECURITY.md)",
    }.items():
        assert link in (ROOT / page).read_text(encoding="utf-8")
