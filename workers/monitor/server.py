"""Metrics, health and the status page over HTTP: GET alone, nothing is changed by any of it."""

import base64
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from .fleets import Fleets
from .metrics import FleetCollector

_PAGE = Path(__file__).with_name("page.html")
_STOPPED_WITHIN_SECONDS = 0.1
_TEXT = "text/plain; charset=utf-8"
_SECURITY = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Answer(NamedTuple):
    """What a path answers."""

    body: bytes
    content_type: str = _TEXT
    status: int = 200
    policy: str = "default-src 'none'; frame-ancestors 'none'"


class Pages:
    """What each path answers; safe to use from several threads."""

    def __init__(self, fleets: Fleets) -> None:
        self._fleets = fleets
        self._registry = CollectorRegistry()
        self._registry.register(FleetCollector(fleets))
        self._page = page_answer(_PAGE.read_text(encoding="utf-8"))
        self._paths: dict[str, Callable[[str], Answer]] = {
            "/": lambda _: self._page,
            "/metrics": self._metrics,
            "/healthz": lambda _: Answer(b"alive\n"),
            "/readyz": self._ready,
            "/status.json": self._status,
            "/history.json": self._history,
        }

    def answer(self, path: str, accept: str) -> Answer:
        """What is told at a path to who accepts that."""
        page = self._paths.get(path.partition("?")[0])
        if page is None:
            return Answer(f"nothing is here; try {' '.join(self._paths)}\n".encode(), status=404)
        return page(accept)

    def _metrics(self, accept: str) -> Answer:
        encode, content_type = choose_encoder(accept)
        return Answer(encode(self._registry), content_type)

    def _ready(self, _: str) -> Answer:
        now = time.time()
        why = {seen.partner_id: seen.why_not_ready(now) for seen in self._fleets.seen()}
        told = "".join(f"{partner}: {reason}\n" for partner, reason in why.items() if reason)
        return Answer(told.encode(), status=503) if told else Answer(b"ready\n")

    def _status(self, _: str) -> Answer:
        partners = [seen.as_dict() for seen in self._fleets.seen()]
        told = {"told_at": time.time(), "partners": partners}
        return Answer(json.dumps(told).encode(), "application/json")

    def _history(self, _: str) -> Answer:
        return Answer(json.dumps(self._fleets.history()).encode(), "application/json")


def page_answer(page: str) -> Answer:
    """The status page, with a policy that lets its own script and style run and nothing else."""
    allowed = {
        tag: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for text in re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        )
        for tag in ("script", "style")
    }
    policy = (
        f"default-src 'none'; script-src {allowed['script']}; style-src {allowed['style']}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Answer(page.encode(), "text/html; charset=utf-8", policy=policy)


class _Handler(BaseHTTPRequestHandler):
    timeout = 5.0  # who sends no request by then is hung up on

    def __init__(self, pages: Pages, *rest: Any) -> None:  # noqa: ANN401 - the server's own
        self._pages = pages
        super().__init__(*rest)

    def do_GET(self) -> None:
        self._send(self._pages.answer(self.path, self.headers.get("Accept", "")))

    def _refuse(self) -> None:
        self._send(Answer(b"this is read-only: GET alone\n", status=405), Allow="GET")

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse  # noqa: N815

    def _send(self, answer: Answer, **more: str) -> None:
        self.send_response(answer.status)
        headers = {
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body)),
            "Content-Security-Policy": answer.policy,
        }
        for name, value in (headers | _SECURITY | more).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def version_string(self) -> str:
        return "subtokens"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: a scrape every few seconds is no news."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 64

    def __init__(self, host: str, port: int, pages: Pages) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), partial(_Handler, pages))

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of who hung up."""


class Monitor:
    """Serves within the block, in threads. Raises OSError where the port is taken."""

    def __init__(self, fleets: Fleets, host: str, port: int) -> None:
        self._server = _Server(host, port, Pages(fleets))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_STOPPED_WITHIN_SECONDS,), daemon=True
        )
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
