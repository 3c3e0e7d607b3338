"""A transport that looks at the Date of the answers that pass through it."""

import time
from email.utils import parsedate_to_datetime

import httpx

from .clocks import seconds_ahead


class DatedTransport(httpx.AsyncBaseTransport):
    """Passes calls on; `ahead_seconds` is our clock before the upstream's, None if it gave none."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.ahead_seconds: float | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass a call on."""
        asked_at = time.time()
        response = await self._inner.handle_async_request(request)
        try:
            theirs = parsedate_to_datetime(response.headers["date"]).timestamp()
        except (KeyError, ValueError):
            return response
        # A Date has whole seconds, and servers keep it for one.
        ahead = seconds_ahead(asked_at, time.time(), theirs, width_seconds=2)
        if self.ahead_seconds is None or abs(ahead) < abs(self.ahead_seconds):
            self.ahead_seconds = ahead
        return response

    async def aclose(self) -> None:
        """Close what it passes calls to."""
        await self._inner.aclose()
