"""What stands before a real server in a test, and gives another answer than it."""

import re
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import create_connection
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from time import time
from urllib.error import HTTPError


@contextmanager
def http_front(
    base_url: str,
    answers: Mapping[str, int | Callable[[bytes], tuple[int, bytes]]] | None = None,
    date_shift_seconds: float = 0,
) -> Iterator[str]:
    """An upstream that answers paths ending so with these statuses; its Date may be off.

    A function instead of a status makes status and body of the request's body.
    """

    class Front(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.partition("?")[0]
            for end, answer in (answers or {}).items():
                if path.endswith(end):
                    return self.answer(*(answer(body) if callable(answer) else (answer, b"{}")))
            request = urllib.request.Request(
                base_url.removesuffix("/v1") + self.path,
                data=body or None,
                method=self.command,
                headers=dict(self.headers),
            )
            try:
                with urllib.request.urlopen(request) as answer:
                    return self.answer(200, answer.read())
            except HTTPError as error:
                with error:
                    return self.answer(error.code, error.read())

        do_POST = do_GET  # noqa: N815 - the base class's names

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if 300 <= status < 400:
                self.send_header("Location", base_url)
            with suppress(ConnectionError):  # whoever asked was killed
                self.end_headers()
                self.wfile.write(body)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(time() + date_shift_seconds, usegmt=True)

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Front)) as port:
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def old_redis(real_port: int) -> Iterator[int]:
    """A Redis that calls itself 5; yields its port."""

    class Front(BaseRequestHandler):
        def handle(self) -> None:
            with create_connection(("127.0.0.1", real_port)) as real:
                back = Thread(target=self.pass_back, args=(real,))
                back.start()
                while part := self.request.recv(65_536):
                    real.sendall(part)
                real.shutdown(1)
                back.join()

        def pass_back(self, real) -> None:
            while part := real.recv(65_536):
                self.request.sendall(re.sub(rb"redis_version:\d", b"redis_version:5", part))

    with serving(ThreadingTCPServer(("127.0.0.1", 0), Front)) as port:
        yield port


@contextmanager
def serving(server: ThreadingTCPServer) -> Iterator[int]:
    server.daemon_threads = True
    with server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
