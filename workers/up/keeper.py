"""A child that is started again whenever it dies, less and less eagerly; its lines are shown."""

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from ..processes import Guarded

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 1.0, 30.0
HEALTHY_SECONDS = 60.0  # whoever lived so long is started again at once as the first time
_LAST_WORDS_SECONDS = 1.0
_PREFIX_CELLS = 8

_printing = threading.Lock()


def say(name: str, line: str) -> None:
    """Print a line with its speaker; a terminal that is gone stops nobody."""
    with _printing:
        try:
            sys.stdout.write(f"{name:<{_PREFIX_CELLS}} │ {line}\n")
            sys.stdout.flush()
        except (OSError, ValueError):
            pass


class Keeper:
    """Keeps one child running; `look` is to be called often."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._clock = clock
        self._child: Guarded | None = None
        self._reader: threading.Thread | None = None
        self._delay_seconds = FIRST_DELAY_SECONDS
        self._starts_at = self._started_at = clock()

    @property
    def is_alive(self) -> bool:
        """Whether the child runs."""
        return self._child is not None and self._child.is_alive

    def look(self) -> None:
        """Start the child if it is time, and note its death."""
        if self._child is None:
            if self._clock() >= self._starts_at:
                self._start()
        elif not self._child.is_alive:
            code = self._child.exit_code
            self.kill()
            if self._clock() - self._started_at >= HEALTHY_SECONDS:
                self._delay_seconds = FIRST_DELAY_SECONDS
            say("up", f"{self.name} ended with {code}; again in {self._delay_seconds:g} s")
            self._starts_at = self._clock() + self._delay_seconds
            self._delay_seconds = min(self._delay_seconds * 2, LONGEST_DELAY_SECONDS)

    def terminate(self) -> None:
        """Ask the child to end."""
        if self._child is not None:
            self._child.terminate()

    def kill(self) -> None:
        """End the child and all it started, and hear its last words."""
        if self._child is not None:
            self._child.kill()
            self._child = None
        if self._reader is not None:
            self._reader.join(_LAST_WORDS_SECONDS)
            self._reader = None

    def _start(self) -> None:
        self._started_at = self._clock()
        self._child = Guarded(self._command, self._environment)
        self._reader = threading.Thread(target=self._show, args=(self._child,), daemon=True)
        self._reader.start()

    def _show(self, child: Guarded) -> None:
        assert child.printed is not None  # noqa: S101 - it was given no other output
        with child.printed as lines:
            for line in lines:
                say(self.name, line.decode(errors="replace").rstrip())
