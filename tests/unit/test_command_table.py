"""The table of commands: purposes, examples, exit codes, and what docs/command-line.md says."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import typer

from subtokens.workers.cli.commands import cli
from subtokens.workers.exit_codes import EXIT_CODES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "command-line.md").read_text()
ROOT_COMMAND: Any = typer.main.get_command(cli)


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command and group below, and the command itself."""
    yield path, command
    for name, sub in getattr(command, "commands", {}).items():
        yield from walk(sub, (*path, name))


COMMANDS = {" ".join(path): command for path, command in walk(ROOT_COMMAND)}
GROUPS = [name for name, command in COMMANDS.items() if hasattr(command, "commands")]
LEAVES = [name for name in COMMANDS if name not in GROUPS]


def help_of(name: str) -> str:
    """Its help as a terminal of 80 columns shows it."""
    command = COMMANDS[name]
    context = command.make_context(f"subtokens {name}".strip(), [], resilient_parsing=True)
    context.terminal_width = 78
    told: str = command.get_help(context)
    return told


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_purpose_of_one_line_and_an_example_that_its_options_allow(
    name: str,
) -> None:
    purpose, *_ = (line.strip() for line in COMMANDS[name].help.splitlines())
    assert purpose.endswith(".")
    examples = re.findall(r"^ +Example: (.*)$", help_of(name), re.MULTILINE)
    assert examples
    for example in examples:
        words = list(takewhile(lambda word: word not in {"&&", ">>"}, shlex.split(example)))
        assert words.pop(0) == "subtokens"
        path, command = [], ROOT_COMMAND
        while words and words[0] in getattr(command, "commands", {}):
            path.append(words.pop(0))
            command = command.commands[path[-1]]
        assert " ".join(path).startswith(name)
        command.make_context(example, words)  # raises where they do not fit


@pytest.mark.parametrize("name", GROUPS)
def test_no_purpose_is_cut_short_at_80_columns(name: str) -> None:
    _, commands = help_of(name).split("Commands:\n")
    for line in commands.split("\n\n")[0].splitlines():
        assert line.endswith(".")
        assert not line.endswith("..."), line


def test_the_help_and_the_page_tell_every_exit_code() -> None:
    _, epilog = help_of("").split("Exit codes:\n")
    told = dict(re.findall(r"^ +(\d+) +(.+)$", epilog, re.MULTILINE))
    assert told == {str(code): meaning for code, meaning in EXIT_CODES.items()}
    assert dict(re.findall(r"^\| (\d+) \| (.+) \|$", PAGE, re.MULTILINE)) == told


def test_the_page_lists_every_command_and_which_have_json() -> None:
    def has_json(name: str) -> str:
        options = [option for parameter in COMMANDS[name].params for option in parameter.opts]
        return "yes" if "--json" in options else "no"

    rows = [
        f"| `{name}` | {COMMANDS[name].help.splitlines()[0].strip()} | {has_json(name)} |"
        for name in LEAVES
    ]
    assert [line for line in PAGE.splitlines() if line.startswith("| `")] == rows


@pytest.mark.parametrize("words", [[], ["status"], ["accounts", "import"], ["exchange"]])
def test_help_loads_nothing_of_weight(words: list[str]) -> None:
    code = "import sys; from subtokens.workers.cli import main\n"
    code += f"sys.argv = ['subtokens', *{words}, '--help']\n"
    code += "try:\n    main()\nexcept SystemExit:\n    print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("Usage: subtokens")
    loaded = set(done.stderr.split())
    assert "subtokens.workers.cli.commands" in loaded
    heavy = {
        "aiohttp",
        "celery",
        "httpx",
        "kombu",
        "pydantic_settings",
        "redis",
        "rich",
        "structlog",
    }
    assert not loaded & heavy
