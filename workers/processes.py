"""Child processes that end with their parent, whatever ends it."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

STOP_SECONDS = 10.0

# Waits on a pipe that the parent holds: when it closes without a word, the child's whole group,
# pool processes and all, has lost its parent and is ended, and the folder that was its own goes.
# No `--` before its id: dash takes none.
_GUARD = 'trap "" INT TERM HUP; read -r _ || { kill -9 "-$1"; shift; rm -rf -- "$@"; }'
# Becomes the child at a word of the parent, which gives it once the guard stands; else it ends.
_CHILD = 'read -r _ && exec "$@" </dev/null'


class Guarded:
    """A process in a group of its own, so that Ctrl-C reaches the parent alone.

    What it prints goes to `output`; without one, into the pipe `printed`. Where the parent dies,
    the folder `owned` is removed.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        output: IO[bytes] | None = None,
        owned: Path | None = None,
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own commands
            ["/bin/sh", "-c", _CHILD, "child", *command],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=output or subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._guard = subprocess.Popen(  # noqa: S603
                [
                    "/bin/sh",
                    "-c",
                    _GUARD,
                    "guard",
                    str(self._process.pid),
                    *([str(owned)] if owned else []),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            self._process.communicate()
            raise
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe, as said above
        with suppress(BrokenPipeError), self._process.stdin as word:
            word.write(b"\n")
        self.printed = self._process.stdout

    @property
    def pid(self) -> int:
        """The child's process id, which is its group's too."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """What it ended with; None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask it to end."""
        if self.is_alive:
            self._process.terminate()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Ask it to end, and end its group if it has not within that time."""
        if self.is_alive:
            self.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """End it and its group at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        if self._guard.poll() is None:
            self._guard.communicate(b"\n")


class Child(Guarded):
    """A guarded process that prints into the file `log`; a context."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        owned: Path | None = None,
    ) -> None:
        with log.open("ab") as output:
            super().__init__(command, environment, output, owned)
        self.log = log

    @classmethod
    def python(cls, module: str, *options: str, environment: Mapping[str, str], log: Path) -> Self:
        """Run a module with this interpreter."""
        return cls([sys.executable, "-m", module, *options], environment, log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def said(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")
