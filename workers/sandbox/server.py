"""The sandbox over HTTP: reads requests, waits the latency out, writes answers."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from . import backstage
from .checks import MAX_BODY_BYTES, Call
from .options import SandboxOptions
from .state import Answer, SandboxState

Clock = Callable[[], float]

HOST = "127.0.0.1"
_BACKLOG = 1_024
_CLOSING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox that is being served."""

    base_url: str
    stats_url: str
    calls_url: str
    options_url: str
    accounts_url: str
    state: SandboxState


def steady_clock() -> Clock:
    """Make a clock of Unix seconds that no one can set back while it runs."""
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset


@asynccontextmanager
async def serving(
    options: SandboxOptions | None = None, *, clock: Clock | None = None
) -> AsyncIterator[Sandbox]:
    """Serve within the block; tokens and counts go by `clock` (Unix seconds).

    Raises OSError where the port is taken.
    """
    options = options or SandboxOptions()
    clock = clock or steady_clock()
    state = SandboxState(options, started_at=clock())
    server = web.Server(_handler(state, clock), access_log=None)
    listener = await asyncio.get_running_loop().create_server(
        server, HOST, options.port, backlog=_BACKLOG
    )
    origin = f"http://{HOST}:{listener.sockets[0].getsockname()[1]}"
    try:
        own = origin + backstage.PATH
        yield Sandbox(
            base_url=f"{origin}/v1",
            stats_url=f"{own}stats",
            calls_url=f"{own}calls",
            options_url=f"{own}options",
            accounts_url=f"{own}accounts",
            state=state,
        )
    finally:
        listener.close()
        await server.shutdown(_CLOSING_SECONDS)
        await listener.wait_closed()


def run(options: SandboxOptions, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `announce` gets the base URL once calls are taken.

    To be called from the main thread. Raises OSError where the port is taken.
    """

    async def serve() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        async with serving(options) as sandbox:
            announce(sandbox.base_url)
            await stopped.wait()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _handler(
    state: SandboxState, clock: Clock
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    async def handle(request: web.BaseRequest) -> web.Response:
        path = request.path
        is_backstage = path.startswith(backstage.PATH)
        # Backstage, a body may name every account; there its size is the tests' own business.
        body = await (request.content.read() if is_backstage else _body(request))
        call = Call(
            request.method,
            path,
            request.rel_url.raw_query_string,
            request.headers.get("Authorization", ""),
            request.headers.get("Content-Type", ""),
            body,
        )
        if is_backstage:
            return _response(backstage.answer(state, call, clock()))
        answer = state.answer(call, clock())  # counted on arrival, sent after the latency
        if latency_seconds := state.options.latency_seconds:
            await asyncio.sleep(latency_seconds)
        return _response(answer)

    return handle


async def _body(request: web.BaseRequest) -> bytes | None:
    try:
        body = await request.read()  # aiohttp itself stops at a mebibyte
    except web.HTTPRequestEntityTooLarge:
        return None
    return body if len(body) <= MAX_BODY_BYTES else None


def _response(answer: Answer) -> web.Response:
    headers = {"Content-Type": "application/json", **answer.headers}
    return web.Response(body=answer.body, status=answer.status, headers=headers)
