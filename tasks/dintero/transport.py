"""The one seam to the network: an httpx transport, backed by aiohttp.

httpx's own connection pool slows down with every connection it holds (docs/decisions); its
request and response types cost next to nothing. Replace this function to change the library.
"""

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

KEEPALIVE_SECONDS = 10.0  # below the usual idle timeout of servers and load balancers


def open_transport(concurrency: int) -> httpx.AsyncBaseTransport:
    """A transport for up to `concurrency` calls at once; TLS verified, no cookies, no redirects.

    Must be called and closed inside the event loop that uses it.
    """
    context = httpx.create_ssl_context()

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=concurrency, keepalive_timeout=KEEPALIVE_SECONDS, ssl=context
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    return _Transport(verify=context, client=session)


class _Transport(AiohttpTransport):
    """Turns aiohttp's error for what is no HTTP into httpx's: its repr shows the request's headers.

    AiohttpTransport leaves that one as it is.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await super().handle_async_request(request)
        except aiohttp.ClientResponseError as error:
            raise httpx.RemoteProtocolError(type(error).__name__) from None
