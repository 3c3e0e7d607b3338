"""Every event that is logged stands in docs/logs.md, and nothing else does."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "logs.md").read_text()
LEVELS = {"debug", "info", "warning", "error"}
IRREGULAR = {"sent", "held", "lost", "read", "broken", "forgotten"}
STATES = {"upstream.failing"}
ROW = re.compile(r"^\| `([a-z_.]+)` \| (\w+) \| (.+) \| (.+) \|$", re.MULTILINE)


def calls(tree: ast.Module) -> Iterator[ast.Call]:
    """The calls of our logger in a module that imports it."""
    if not any(
        isinstance(node, ast.ImportFrom)
        and (node.module or "").endswith("config.logs")
        and "log" in [alias.name for alias in node.names]
        for node in ast.walk(tree)
    ):
        return
    used = sum(isinstance(node, ast.Name) and node.id == "log" for node in ast.walk(tree))
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "log"
    ]
    assert len(found) == used, "the logger is used in a way that this test does not understand"
    yield from found


def names(event: ast.expr) -> list[str]:
    """A literal, or one of two."""
    choice = [event.body, event.orelse] if isinstance(event, ast.IfExp) else [event]
    assert all(isinstance(one, ast.Constant) for one in choice), ast.unparse(event)
    return [str(one.value) for one in choice if isinstance(one, ast.Constant)]


def logged() -> dict[str, tuple[set[str], set[str], bool]]:
    """Each event with its levels, its fields, and whether it may have more than those."""
    found: dict[str, tuple[set[str], set[str], bool]] = defaultdict(lambda: (set(), set(), False))
    for top in ("config", "tasks", "workers"):
        for path in sorted((ROOT / top).rglob("*.py")):
            for call in calls(ast.parse(path.read_text())):
                assert isinstance(call.func, ast.Attribute)
                for name in names(call.args[0]):
                    levels, fields, has_more = found[name]
                    keywords = {keyword.arg for keyword in call.keywords}
                    found[name] = (
                        levels | {call.func.attr},
                        fields | {keyword for keyword in keywords if keyword},
                        has_more or None in keywords,
                    )
    return dict(found)


def documented() -> dict[str, tuple[str, set[str]]]:
    """Each event of the table with its level and its fields."""
    rows = ROW.findall(PAGE)
    found = {name: (level, set(re.findall(r"`(\w+)`", fields))) for name, level, _, fields in rows}
    assert len(found) == len(rows) == PAGE.count("\n| `"), "a row that is twice there, or broken"
    found["accounts.renewed"] = ("info", found["accounts.exchanged"][1])  # "as above"
    return found


LOGGED = logged()


def test_what_is_logged_is_documented_and_the_other_way_round() -> None:
    assert sorted(LOGGED) == sorted(documented())


@pytest.mark.parametrize("event", LOGGED)
def test_its_level_and_its_fields_are_those_of_the_table(event: str) -> None:
    levels, fields, has_more = LOGGED[event]
    level, told = documented()[event]
    assert levels == {level}
    assert levels <= LEVELS
    assert fields == told or (has_more and fields <= told)


@pytest.mark.parametrize("event", LOGGED)
def test_its_name_is_a_noun_and_what_happened_to_it(event: str) -> None:
    noun, dot, happened = event.partition(".")
    assert noun.isalpha()
    assert dot
    words = [word for word in happened.split("_") if word != "not"]
    is_past = any(word.endswith("ed") or word in IRREGULAR for word in words)
    assert is_past or event in STATES


@pytest.mark.parametrize("event", [event for event in LOGGED if event.startswith("account.")])
def test_what_is_of_one_account_is_told_at_debug(event: str) -> None:
    assert LOGGED[event][0] == {"debug"}
