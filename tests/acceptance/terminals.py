"""Commands on a terminal: a pseudo-terminal of a given width, and what it was shown."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

COMMAND = [sys.executable, "-m", "subtokens.workers.cli"]
_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7])(?:;\d+)*m")


class Terminal:
    """`subtokens …` on a terminal of so many columns; a context, which ends it."""

    def __init__(
        self, *arguments: str, columns: int, environment: Mapping[str, str], folder: Path
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        self._process = subprocess.Popen(
            [*COMMAND, *arguments],
            env={**environment, "TERM": "xterm-256color", "COLUMNS": ""},
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def await_shown(self, text: str, times: int = 1, within: float = 30.0) -> None:
        """Read on until the text has been shown so often."""
        ends_at = time.monotonic() + within
        while self.shown.count(text) < times:
            assert self._read(ends_at), self.shown

    def interrupt(self) -> None:
        """As Ctrl-C does it."""
        self._process.send_signal(signal.SIGINT)

    def finish(self, within: float = 30.0) -> int:
        """Read to its end; returns the exit code."""
        ends_at = time.monotonic() + within
        while self._read(ends_at):
            pass
        return self._process.wait(within)

    @property
    def lines(self) -> list[str]:
        """What was shown, without colours and movements."""
        return _SEQUENCE.sub("", self.shown).replace("\r\n", "\n").splitlines()

    def _read(self, ends_at: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], max(0.0, ends_at - time.monotonic()))
        try:
            found = os.read(self._ours, 65_536) if ready else b""
        except OSError:  # the other side is closed
            found = b""
        self.shown += found.decode(errors="replace")
        return bool(found)
