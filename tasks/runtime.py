"""What a worker process holds: one event loop in a thread, one HTTP transport, one Redis client.

It starts with the first task in whatever process that task runs, ours or another app's, and is
never carried over a fork.
"""

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from ..config.logs import log
from ..config.settings import Settings, load
from .dintero.transport import open_transport
from .fleet import Fleet, open_store

T = TypeVar("T")
_HAND_BACK_SECONDS = 5.0


class Runtime:
    """The parts of one process. Safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pid = os.getpid()
        self._loop = _new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._stopping = asyncio.Event()
        self._fleets: dict[str, Fleet] = {}
        self._redis = open_store(settings.store_url.get_secret_value())
        self._transport = open_transport(settings.concurrency, settings.upstream_ca_file)
        for file in settings.files_read_by_others():
            log.warning("secrets.exposed", file=str(file), remedy=f"chmod 600 {file}")

    def fleet(self, partner_id: str | None = None) -> Fleet:
        """The fleet of that partner, or of the only one. Raises InputError if not configured."""
        partner = self.settings.partner(partner_id)
        fleet = self._fleets.get(partner.partner_id)
        if fleet is None:
            fleet = Fleet(
                self.settings, partner, self._redis, self._transport, stopping=self._stopping
            )
            self._fleets[partner.partner_id] = fleet
        return fleet

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the event loop and wait; a soft time limit cancels it and lets it tidy."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            if future.cancel():
                _wait_quietly(self._loop, _HAND_BACK_SECONDS)
            raise

    def stop_claiming(self) -> None:
        """Let stints end with the calls that are under way; harmless in a signal handler."""
        self._loop.call_soon_threadsafe(self._stopping.set)

    def close(self) -> None:
        """Close connections and stop the loop; after a fork, they are the other process's."""
        if self.pid != os.getpid():
            return

        async def close() -> None:
            await self._transport.aclose()
            await self._redis.aclose()

        self.call(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)


_runtime: Runtime | None = None
_starting = threading.Lock()


def runtime() -> Runtime:
    """The runtime of this process, started if need be. Raises SettingsError."""
    global _runtime  # noqa: PLW0603 - one per process is the point
    with _starting:
        if _runtime is None or _runtime.pid != os.getpid():
            _runtime = Runtime(load(Settings))
        return _runtime


def stop_claiming() -> None:
    """Let this process's work end early, as it is about to end itself; others go on with it."""
    if _runtime is not None and _runtime.pid == os.getpid():
        _runtime.stop_claiming()


def forget_runtime() -> None:
    """Close this process's runtime; the next task starts another, from the settings then."""
    global _runtime  # noqa: PLW0603 - as above
    with _starting:
        if _runtime is not None and _runtime.pid == os.getpid():
            _runtime.close()
        _runtime = None


atexit.register(forget_runtime)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _wait_quietly(loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    """Give cancelled work time to hand back: wait until the loop has nothing else to do."""

    async def others_done() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=seconds)

    asyncio.run_coroutine_threadsafe(others_done(), loop).result(seconds + 1)
