"""The folder that `subtokens up` keeps between its runs: Redis's data, its port, secrets, signs."""

import fcntl
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from ...config.errors import InputError, SubtokensError

_LOCK = "lock"


class FolderInUseError(SubtokensError):
    """Another `subtokens up` keeps this folder."""


class DataFolder:
    """A folder for one `up` at a time, closed to other users; a context.

    Raises FolderInUseError, or InputError where the folder cannot be ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not (self.path / _LOCK).exists() and any(self.path.iterdir()):
                # Its mode is about to change: not that of a home or of /tmp.
                raise InputError(f"{self.path} holds files of others: name a folder of its own")
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise InputError(f"the data folder cannot be used: {error}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._lock, 20).decode(errors="replace").strip()
            os.close(self._lock)
            raise FolderInUseError(
                f"`subtokens up` already runs on {self.path} (process {holder}): stop that one, "
                "or give this one another --data-folder"
            ) from None
        self.path.chmod(0o700)
        os.ftruncate(self._lock, 0)
        os.write(self._lock, f"{os.getpid()}\n".encode())
        self.keep(".gitignore", "*\n")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def folder(self, name: str) -> Path:
        """A folder in it."""
        path = self.path / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def keep(self, name: str, text: str) -> Path:
        """Write a file that nobody else may read; whole or not at all."""
        path, draft = self.path / name, self.path / f"{name}.new"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # sealed tokens are worthless without the key that sealed them
        draft.replace(path)
        return path

    def kept(self, name: str) -> str | None:
        """What is kept under that name."""
        path = self.path / name
        return path.read_text().strip() if path.exists() else None

    def kept_or_made(self, name: str, make: Callable[[], str]) -> str:
        """What is kept under that name, made if need be."""
        found = self.kept(name)
        if not found:
            found = make()
            self.keep(name, f"{found}\n")
        return found

    def keep_environment(self, variables: Mapping[str, str]) -> Path:
        """Write what another terminal needs, to be read by its shell."""
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
        return self.keep("environment", "".join(lines))
