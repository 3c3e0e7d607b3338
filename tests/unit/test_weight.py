"""Each room of the core stays within what it may weigh (decision 0012)."""

import ast
import io
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def lines_of_python(source: str) -> int:
    """How many lines hold code, and not only a docstring or a comment."""
    held = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in NOT_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Documented) and ast.get_docstring(node, clean=False) is not None:
            docstring = node.body[0]
            held -= set(range(docstring.lineno, (docstring.end_lineno or 0) + 1))
    return len(held)


def lines_of_lua(source: str) -> int:
    lines = map(str.strip, source.splitlines())
    return sum(1 for line in lines if line and not line.startswith("--"))


def test_a_line_of_code_is_one_that_is_neither_empty_nor_a_comment_nor_a_docstring() -> None:
    python = '"""What it is."""\n# why\nx = [\n    1,  # one\n]\ndef f():\n    """What for."""\n'
    assert lines_of_python(python) == 4
    assert lines_of_lua("-- why\nlocal x = 1\n\n  -- more\nreturn x\n") == 2


@pytest.mark.parametrize(
    ("room", "files", "most"),
    [
        ("config", "*.py", 760),
        ("tasks", "*.py", 1_150),
        ("tasks/dintero", "*.py", 540),
        ("tasks/tokens", "*.py", 2_680),
        ("tasks/tokens/lua", "*.lua", 830),
    ],
)
def test_a_room_weighs_no_more_than_it_may(room: str, files: str, most: int) -> None:
    count = lines_of_lua if files == "*.lua" else lines_of_python
    weight = sum(count(file.read_text("utf-8")) for file in (ROOT / room).glob(files))
    assert most * 0.9 < weight <= most
