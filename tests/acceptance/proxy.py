"""A TCP proxy that misbehaves as networks do: cuts, swallows, delays and forgets connections."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

DEADLINE_SECONDS = 10.0


class Link:
    """One connection through the proxy, from both sides."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self.writers = writers
        self.is_forgotten = False

    def abort(self) -> None:
        """End it with a reset, as a host that goes down does."""
        for writer in self.writers:
            writer.transport.abort()


class FaultProxy:
    """Forwards a loopback port to another one, unless told otherwise; a context, in a thread."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._up = threading.Event()
        self._links: set[Link] = set()
        self._delay_seconds, self._is_down = 0.0, False

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(DEADLINE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(DEADLINE_SECONDS)

    def cut(self) -> None:
        """Reset every connection; new ones work."""
        self._do(self._abort_all)

    def forget(self) -> None:
        """Answer on no connection of now any more, without a word; new ones work.

        What a firewall does that loses its table, or a peer's host that is taken away.
        """

        def forget() -> None:
            for link in self._links:
                link.is_forgotten = True

        self._do(forget)

    @contextmanager
    def down(self) -> Iterator[None]:
        """Reset every connection, and each new one."""

        def go_down() -> None:
            self._is_down = True
            self._abort_all()

        self._do(go_down)
        try:
            yield
        finally:
            self._is_down = False

    @contextmanager
    def blackholed(self) -> Iterator[None]:
        """Keep all bytes back; they arrive late, as TCP sends them again until they do."""
        self._do(self._flows.clear)
        try:
            yield
        finally:
            self._do(self._flows.set)

    @contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """Delay every piece of every answer and request by so much."""
        self._delay_seconds = seconds
        try:
            yield
        finally:
            self._delay_seconds = 0.0

    def _do(self, change: object) -> None:
        done = threading.Event()

        def do() -> None:
            change()  # type: ignore[operator]
            done.set()

        self._loop.call_soon_threadsafe(do)
        assert done.wait(DEADLINE_SECONDS)

    def _abort_all(self) -> None:
        for link in list(self._links):
            link.abort()

    def _run(self) -> None:
        async def serve() -> None:
            self._done, self._flows = asyncio.Event(), asyncio.Event()
            self._flows.set()
            server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
            self.port: int = server.sockets[0].getsockname()[1]
            self._up.set()
            await self._done.wait()
            server.close()
            self._flows.set()
            self._abort_all()
            while self._links:  # a cancelled one would complain in asyncio's streams
                await asyncio.sleep(0.01)

        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(serve())

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_down:
            writer.transport.abort()
            return
        try:
            target = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:  # it is not there: so is the proxy
            writer.transport.abort()
            return
        link = Link(writer, target[1])
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pump(reader, target[1], link), self._pump(target[0], writer, link)
            )
        finally:
            link.abort()
            self._links.discard(link)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if self._delay_seconds:
                    await asyncio.sleep(self._delay_seconds)
                await self._flows.wait()
                if not link.is_forgotten:
                    writer.write(data)
                    await writer.drain()
            if not link.is_forgotten:
                writer.close()
