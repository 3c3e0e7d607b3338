"""`subtokens demo`: one command shows it all, and leaves nothing behind whatever ends it."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from subtokens.config.settings import PREFIX

from .conftest import eventually

COMMAND = [sys.executable, "-m", "subtokens.workers.cli", "demo"]
INTERRUPTED = 130


def environment(mark: str, temporary: Path) -> dict[str, str]:
    """The environment of a demo: its processes are known by the mark, its files by the folder."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
    return outside | {"DEMO_MARK": mark, "TMPDIR": str(temporary)}


def marked(mark: str) -> dict[int, str]:
    """The running processes that carry the mark, by id, with their command lines."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"DEMO_MARK={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                command = (process / "cmdline").read_bytes()
                found[int(process.name)] = command.replace(b"\0", b" ").decode()
        except OSError:  # it has ended meanwhile, or is another user's
            continue
    return found


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / "t"
    folder.mkdir()
    return folder


def test_the_demo_serves_every_account_and_says_so(temporary: Path) -> None:
    mark = uuid4().hex
    done = subprocess.run(
        [*COMMAND, "--accounts", "60", "--watch", "11"],
        env=environment(mark, temporary),
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for row in ("sub-accounts with a token", "batch calls accepted"):
        assert re.search(rf"{row}\W+60 of 60\b", done.stdout), done.stdout
    assert re.search(r"with distinct tokens\W+60\b", done.stdout)
    assert int(re.findall(r"  renewals\W+(\d+)", done.stdout)[-1]) >= 60
    assert re.search(r"accounts ever without a valid token\W+0\b", done.stdout)
    assert "Traceback" not in done.stdout + done.stderr
    assert not marked(mark)
    assert not list(temporary.iterdir())


@pytest.mark.faults  # it takes seconds
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc")
def test_a_demo_that_is_stopped_in_the_middle_leaves_nothing_behind(tmp_path: Path) -> None:
    """By Ctrl-C and by force: two at once, to save their start-up time."""
    stops = {signal.SIGINT: INTERRUPTED, signal.SIGKILL: -signal.SIGKILL}
    demos: dict[signal.Signals, tuple[str, Path, subprocess.Popen[str]]] = {}
    try:
        for stop in stops:
            mark, temporary = uuid4().hex, tmp_path / stop.name
            temporary.mkdir()
            demos[stop] = (
                mark,
                temporary,
                subprocess.Popen(
                    [*COMMAND, "--accounts", "1000", "--rate", "50"],
                    env=environment(mark, temporary),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                ),
            )
        for stop, (mark, temporary, demo) in demos.items():
            assert demo.stdout
            while "Discovered" not in (line := demo.stdout.readline()):
                assert line, "it ended before it was in the middle"
            # The demo, Redis, the sandbox, two workers with one more process each, and guards.
            assert len(marked(mark)) >= 7
            demo.send_signal(stop)
            said = demo.stdout.read()
            assert demo.wait(60) == stops[stop], said
            assert "Traceback" not in said
            eventually(lambda mark=mark: not marked(mark), told=lambda mark=mark: marked(mark))
            if stop is not signal.SIGKILL:
                assert not list(temporary.iterdir())
    finally:
        for mark, _, demo in demos.values():
            demo.kill()
            demo.communicate()
            for left in marked(mark):  # only where the test has failed
                with suppress(ProcessLookupError):
                    os.kill(left, signal.SIGKILL)
