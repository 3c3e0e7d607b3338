"""The pages say what is so: commands that exist, settings as they are, an answer to each alert.

That links lead somewhere is for `make docs` to see. Code that runs is run in tests/acceptance:
README's and getting started's in test_readme.py, pipelines' in test_examples.py.
"""

import contextlib
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml
from celery import Celery
from celery.bin.celery import celery
from typer.exceptions import Exit, TyperException
from typer.main import get_command

from subtokens.config.queues import QUEUES
from subtokens.config.settings import PREFIX, Settings
from subtokens.workers.cli.commands import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
NAMES = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
RUN_ELSEWHERE = {"README.md", "getting-started.md", "pipelines.md"}


def blocks(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks of a page: language and text."""
    text = page.read_text("utf-8")
    return re.findall(r"^```(\S*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def all_blocks(*languages: str) -> list[tuple[str, str]]:
    """The blocks in these languages, each with its page's name."""
    found = [(page.name, *block) for page in PAGES for block in blocks(page)]
    return [(name, text) for name, language, text in found if language in languages]


# Commands


def commands() -> list[str]:
    """Every command that a page shows, without comment and whatever takes its output."""
    lines = [line for _, text in all_blocks("sh") for line in text.splitlines()]
    typed = [line for _, text in all_blocks("console") for line in text.splitlines()]
    lines += [line.removeprefix("$ ") for line in typed if line.startswith("$ ")]
    bare = [line.partition(" # ")[0] for line in lines]
    return [one.strip() for line in bare for one in re.split(r"&&|\||>+ \S+", line) if one.strip()]


def options_of(command) -> set[str]:
    return {option for one in command.params for option in [*one.opts, *one.secondary_opts]}


def parse_ours(words: list[str]) -> None:
    """Parse as `subtokens` does, down to the last subcommand, and run nothing.

    An option that ends by itself, such as --version, does so; which shell this is may be unknown.
    """
    with contextlib.suppress(SystemExit, Exit):
        parse_to_the_last(words)


def parse_to_the_last(words: list[str]) -> None:
    command, name, context = get_command(cli), "subtokens", None
    while True:
        context = command.make_context(name, words, parent=context)
        if not hasattr(command, "resolve_command"):
            return
        name, command, words = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )


def check_celery(words: list[str]) -> None:
    dash_a, app, name, *rest = words
    assert (dash_a, app) == ("-A", "subtokens.workers")
    if name == "flower":  # whose options are no click's: tests/acceptance/test_leaks.py starts it
        return
    given = [word for word in rest if word.startswith("-")]
    assert set(given) <= options_of(celery.commands[name])
    if "-Q" in rest:
        of_any = {queue.partition(".")[2] for queue in QUEUES}
        for queue in rest[rest.index("-Q") + 1].split(","):
            assert queue.partition(".")[2] in of_any


def check_make(words: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [word for word in words if "=" not in word and word not in targets] == []


def check_pip(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    _, wanted = words
    name, *extras = re.findall(r"[\w-]+", wanted.replace(".[", "subtokens["))  # this folder
    assert name in {"subtokens", "flower"}
    assert set(extras) <= set(project["optional-dependencies"])


def check_export(words: list[str]) -> None:
    name = words[0].partition("=")[0]
    assert name in NAMES or not name.startswith(PREFIX)


CHECKS = {
    "subtokens": parse_ours,
    "celery": check_celery,
    "make": check_make,
    "pip": check_pip,
    "export": check_export,
    "cp": lambda words: (ROOT / words[0]).stat(),
    "curl": lambda words: None,  # what it posts: tests/integration/test_sandbox.py
    "jq": lambda words: None,
    ".": lambda words: None,  # what `up` and a virtual environment write
    "python": lambda words: (ROOT / "examples" / "cron" / words[0]).stat(),
}


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_a_command_that_is_shown_can_be_given(command: str) -> None:
    name, *words = shlex.split(command)
    CHECKS[name](words)


def test_a_command_that_is_named_in_a_sentence_exists() -> None:
    texts = [page.read_text("utf-8") for page in PAGES]
    named = {one for text in texts for one in re.findall(r"`subtokens\s([^`…|]+)`", text)}
    assert len(named) >= 15
    for command in named:
        if command == "COMMAND --help":  # any of them
            continue
        try:
            parse_ours(command.split())
        except TyperException as error:  # in a sentence, what it is about may be left out
            if not str(error).startswith("Missing parameter"):
                raise


def test_nothing_stands_in_a_block_that_no_test_looks_at() -> None:
    languages = {language for page in PAGES for language, _ in blocks(page)}
    assert languages <= {"", "{toctree}", "console", "sh", "python", "ini", "yaml", "toml"}
    assert len(commands()) >= 40


# Code


def test_code_that_is_run_nowhere_else_runs() -> None:
    others = [(page, text) for page, text in all_blocks("python") if page not in RUN_ELSEWHERE]
    assert {page for page, _ in others} == {"deploying.md", "0007-a-run-is-of-one-partner.md"}
    for page, text in others:
        if page == "deploying.md":
            space: dict[str, Celery] = {}
            exec(text, space)
            assert space["app"].conf.broker_transport_options["master_name"] == "mymaster"
        else:
            compile(text, page, "exec")


def test_settings_in_a_block_are_settings() -> None:
    lines = [line for _, text in all_blocks("ini") for line in text.splitlines()]
    assert [line for line in lines if line.partition("=")[0] not in NAMES] == []


def test_blocks_of_data_are_data() -> None:
    for _, text in all_blocks("yaml"):
        assert yaml.safe_load(text)
    for _, text in all_blocks("toml"):
        assert tomllib.loads(text)


# The page of the settings


def test_the_page_of_the_settings_is_as_they_are() -> None:
    found = importlib.util.spec_from_file_location("written", ROOT / "docs/write_configuration.py")
    assert found is not None
    assert found.loader is not None
    writer = importlib.util.module_from_spec(found)
    found.loader.exec_module(writer)

    assert writer.PAGE.read_text("utf-8") == writer.page(), "run: make docs"
    assert re.findall(r"^\| `(SUBTOKENS_\w+)`", writer.page(), re.MULTILINE) != []
    assert set(re.findall(r"^\| `(SUBTOKENS_\w+)`", writer.page(), re.MULTILINE)) == set(NAMES)


# The runbook


def test_each_alert_leads_to_a_section_that_says_what_it_means_where_to_look_what_to_do() -> None:
    rules = yaml.safe_load((ROOT / "config/alerts.yml").read_text())["groups"][0]["rules"]
    page = (ROOT / "docs/operations.md").read_text("utf-8").partition("## When it rings\n")[2]
    _, *parts = re.split(r"^### (\w+)\n", page, flags=re.MULTILINE)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))

    assert list(sections) == [rule["alert"] for rule in rules]
    for rule in rules:
        name = rule["alert"]
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
        assert re.findall(r"^\*\*(\w+)", sections[name], re.MULTILINE) == ["It", "Look", "Do"], name
