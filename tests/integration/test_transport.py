"""The transport: connections are kept, and no answer reaches a request that is not its own."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace

import httpx
import pytest
import uvloop

from subtokens.tasks.dintero import transport as module
from subtokens.tasks.dintero.transport import open_transport

Part = bytes | float  # sent, or waited for before the next is sent
CLOSE = -1.0


class Server:
    """Answers the nth request with the nth script, and counts connections."""

    def __init__(self, *scripts: list[Part]) -> None:
        self._scripts = iter(scripts)
        self.connections = 0
        self.requests: list[bytes] = []
        self.ended = asyncio.Event()  # a client has closed a connection

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                for part in next(self._scripts):
                    if isinstance(part, bytes):
                        writer.write(part)
                    elif part == CLOSE:
                        return
                    else:
                        await asyncio.sleep(part)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended.set()
        finally:
            writer.close()


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Callable[[], "asyncio.Task[str]"]]:
    """Gives what asks it once more; a connection for each of four calls at once."""
    listener = await asyncio.start_server(server, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/path?query=1"
    async with open_transport(4) as transport:

        async def ask() -> str:
            response = await transport.handle_async_request(httpx.Request("GET", url))
            return f"{response.status_code} {(await response.aread()).decode()}"

        yield lambda: asyncio.create_task(ask())
    listener.close()


def answer(body: str, *headers: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


async def test_one_connection_serves_calls_that_follow_each_other() -> None:
    server = Server([answer("a")], [answer("b")], [answer("c", status="403 No")])
    async with serving(server) as ask:
        assert [await ask() for _ in range(3)] == ["200 a", "200 b", "403 c"]
    assert server.connections == 1
    assert server.requests[0].startswith(b"GET /path?query=1 HTTP/1.1\r\n")


async def test_calls_at_once_have_a_connection_each_and_no_more_than_are_allowed() -> None:
    server = Server(*[[0.02, answer(str(number))] for number in range(12)])
    async with serving(server) as ask:
        answers = await asyncio.gather(*(ask() for _ in range(12)))
    assert sorted(answers) == sorted(f"200 {number}" for number in range(12))
    assert server.connections == 4


async def test_calls_that_hang_at_one_server_keep_none_at_another_waiting() -> None:
    hung, well = Server([3600.0], [3600.0]), Server([answer("a")])
    listeners = [await asyncio.start_server(server, "127.0.0.1", 0) for server in (hung, well)]
    ports = [listener.sockets[0].getsockname()[1] for listener in listeners]
    async with open_transport(2) as transport:

        async def ask(port: int) -> int:
            request = httpx.Request("GET", f"http://127.0.0.1:{port}/")
            return (await transport.handle_async_request(request)).status_code

        hanging = [asyncio.create_task(ask(ports[0])) for _ in range(3)]
        async with asyncio.timeout(5):
            while len(hung.requests) < 2:
                await asyncio.sleep(0.01)
            assert await ask(ports[1]) == 200
        assert hung.connections == 2
        for call in hanging:
            call.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize("interim", ["100 Continue", "103 Early Hints"])
async def test_an_interim_answer_is_passed_over(interim: str) -> None:
    early = f"HTTP/1.1 {interim}\r\nLink: </x>\r\n\r\n".encode()
    server = Server([early, 0.01, early, answer("a")], [early + answer("b")])
    async with serving(server) as ask:
        assert [await ask(), await ask()] == ["200 a", "200 b"]


@pytest.mark.parametrize("until", ["close", "the end"])
async def test_a_connection_that_the_server_gives_up_is_followed_by_another(until: str) -> None:
    body = answer("a", "Connection: close") if until == "close" else b"HTTP/1.1 200 OK\r\n\r\na"
    server = Server([body, CLOSE], [answer("b")])
    async with serving(server) as ask:
        assert [await ask(), await ask()] == ["200 a", "200 b"]
    assert server.connections == 2


@pytest.mark.parametrize("after", [0, 0.01])
async def test_more_than_was_asked_for_reaches_no_later_call(after: float) -> None:
    excess = [answer("a"), after, answer("CANARY")] if after else [answer("a") + answer("CANARY")]
    server = Server(excess, [answer("b")])
    async with serving(server) as ask:
        assert await ask() == "200 a"
        async with asyncio.timeout(5):
            await server.ended.wait()
        assert await ask() == "200 b"
    assert server.connections == 2


async def test_the_answer_to_a_cancelled_call_reaches_no_later_one() -> None:
    server = Server([answer("CANARY")[:20], 0.05, answer("CANARY")[20:]], [answer("b")])
    async with serving(server) as ask:
        call = ask()
        while not server.requests:
            await asyncio.sleep(0)
        call.cancel()
        assert await ask() == "200 b"
    assert server.connections == 2


async def test_the_status_of_an_error_counts_even_if_its_body_breaks_off() -> None:
    server = Server([answer("a", status="401 No")[:-1], CLOSE])
    async with serving(server) as ask:
        assert await ask() == "401 "


@pytest.mark.parametrize(
    "broken",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"1\r\na\r\n0\r\n\r\n"
        ),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nCANARY",
        b"HTTP/1.1 200 OK\r\nA: b\x00c\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000,
    ],
)
async def test_an_answer_that_two_could_read_in_two_ways_is_none(broken: bytes) -> None:
    server = Server([broken], [answer("b")])
    async with serving(server) as ask:
        with pytest.raises(httpx.RemoteProtocolError) as raised:
            await ask()
        assert "CANARY" not in str(raised.value)
        assert await ask() == "200 b"
    assert server.connections == 2


@pytest.mark.parametrize("value", [b"a\r\nX: b", b"a\nX: b", b"a\rX: b"])
async def test_a_header_cannot_smuggle_another_line(value: bytes) -> None:
    request = httpx.Request("GET", "http://127.0.0.1:9/", headers=[(b"A", value)])
    async with open_transport(1) as transport:
        with pytest.raises(httpx.TransportError, match="line break"):
            await transport.handle_async_request(request)


async def test_a_connection_idle_for_too_long_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server([answer("a")], [answer("b")])
    async with serving(server) as ask:
        assert await ask() == "200 a"
        monkeypatch.setattr(module, "KEEPALIVE_SECONDS", -1.0)
        assert await ask() == "200 b"
    assert server.connections == 2


async def test_a_connection_is_given_up_before_a_server_that_closes_idle_ones_after_five_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    server = Server([answer("a")], [answer("b")], [answer("c")])
    async with serving(server) as ask:
        for now, expected, connections in [(0, "200 a", 1), (3.5, "200 b", 1), (8, "200 c", 2)]:
            clock.now = now
            assert await ask() == expected
            assert server.connections == connections


async def test_calls_at_once_look_the_name_up_once_and_a_failure_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_up = []

    async def getaddrinfo(*asked: object, **_: object) -> list[object]:
        looked_up.append(asked)
        await asyncio.sleep(0.01)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    request = httpx.Request("GET", "http://nowhere.invalid/")
    async with open_transport(8) as transport:
        for expected in (1, 2):
            failures = await asyncio.gather(
                *(transport.handle_async_request(request) for _ in range(8)),
                return_exceptions=True,
            )
            assert {str(one) for one in failures} == {"Name or service not known"}
            assert len(looked_up) == expected


async def test_a_lookup_that_fails_when_nobody_waits_any_more_is_no_error_in_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, failed, told = asyncio.get_running_loop(), asyncio.Event(), []

    async def getaddrinfo(*_: object, **__: object) -> list[object]:
        try:
            await asyncio.sleep(0.05)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        finally:
            failed.set()

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    loop.set_exception_handler(lambda _loop, context: told.append(context["message"]))
    timeout = {"timeout": {"connect": 0.01}}
    request = httpx.Request("GET", "http://nowhere.invalid/", extensions=timeout)
    async with open_transport(1) as transport:
        with pytest.raises(httpx.ConnectTimeout):
            await transport.handle_async_request(request)
        await failed.wait()
        await asyncio.sleep(0)
    del transport
    gc.collect()
    assert told == []


async def test_what_hangs_while_it_connects_ends_in_time() -> None:
    with socket.socket() as silent:  # takes the connection, and never a TLS greeting
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        request = httpx.Request(
            "GET",
            f"https://127.0.0.1:{silent.getsockname()[1]}/",
            extensions={"timeout": {"connect": 0.05}},
        )
        async with open_transport(1) as transport:
            with pytest.raises(httpx.ConnectTimeout):
                await transport.handle_async_request(request)


def test_it_does_the_same_on_uvloop_which_workers_take_where_it_is_installed() -> None:
    async def asked() -> None:
        server = Server(
            [answer("a")],
            [answer("b", "Connection: close"), CLOSE],
            [answer("c") + answer("CANARY")],
            [answer("d")[:-1], CLOSE],
            [b"HTTP/1.1 200 OK\r\n\r\ne", CLOSE],
        )
        async with serving(server) as ask:
            assert [await ask() for _ in range(3)] == ["200 a", "200 b", "200 c"]
            with pytest.raises(httpx.ReadError, match="closed before the answer ended"):
                await ask()
            assert await ask() == "200 e"
        assert server.connections == 4

    uvloop.run(asked())
