"""Metrics, health and the status page over HTTP: GET alone, nothing is changed by any of it."""

import base64
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from .fleets import Fleets
from .metrics import FleetCollector

_PAGE = Path(__file__).with_name("page.html")
_STOPPED_WITHIN_SECONDS = 1.0
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Server": "subtokens",
    "X-Content-Type-Options": "nosniff",
}
_POLICY = "Content-Security-Policy"


@asynccontextmanager
async def serving(fleets: Fleets, host: str, port: int) -> AsyncIterator[str]:
    """Serve within the block; gives the URL. Raises OSError where the port is taken."""
    runner = web.AppRunner(
        Pages(fleets).application(),
        access_log=None,  # a scrape every few seconds is no news
        shutdown_timeout=_STOPPED_WITHIN_SECONDS,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class Pages:
    """What each path answers."""

    def __init__(self, fleets: Fleets) -> None:
        self._fleets = fleets
        self._text = _PAGE.read_text(encoding="utf-8")
        self._policy = policy_of(self._text)
        self._paths = {
            "/": self._page,
            "/metrics": self._metrics,
            "/healthz": self._alive,
            "/readyz": self._ready,
            "/status.json": self._status,
            "/history.json": self._history,
        }

    def application(self) -> web.Application:
        """The paths, and what is said where nothing is."""
        application = web.Application()
        for path, page in self._paths.items():
            application.router.add_get(path, page, allow_head=False)
        application.router.add_get("/{elsewhere:.*}", self._nothing, allow_head=False)
        application.on_response_prepare.append(_complete)
        return application

    async def _page(self, _: web.Request) -> web.Response:
        headers = {_POLICY: self._policy}
        return web.Response(text=self._text, content_type="text/html", headers=headers)

    async def _metrics(self, request: web.Request) -> web.Response:
        registry = CollectorRegistry()
        registry.register(FleetCollector(await self._fleets.seen()))
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    async def _alive(self, _: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def _ready(self, _: web.Request) -> web.Response:
        now = time.time()
        why = {seen.partner_id: seen.why_not_ready(now) for seen in await self._fleets.seen()}
        told = "".join(f"{partner}: {reason}\n" for partner, reason in why.items() if reason)
        return web.Response(text=told, status=503) if told else web.Response(text="ready\n")

    async def _status(self, _: web.Request) -> web.Response:
        partners = [seen.as_dict() for seen in await self._fleets.seen()]
        return _json({"told_at": time.time(), "partners": partners})

    async def _history(self, _: web.Request) -> web.Response:
        return _json(await self._fleets.history())

    async def _nothing(self, _: web.Request) -> web.Response:
        return web.Response(text=f"nothing is here; try {' '.join(self._paths)}\n", status=404)


def policy_of(page: str) -> str:
    """The policy that lets the page's own script and style run and nothing else."""
    allowed = {
        tag: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for text in re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        )
        for tag in ("script", "style")
    }
    return (
        f"default-src 'none'; script-src {allowed['script']}; style-src {allowed['style']}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _json(told: object) -> web.Response:
    return web.Response(body=json.dumps(told).encode(), content_type="application/json")


async def _complete(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.setdefault(_POLICY, "default-src 'none'; frame-ancestors 'none'")
    response.headers.update(_HEADERS)
