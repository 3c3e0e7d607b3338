"""The one seam to the network: an httpx transport, backed by aiohttp.

httpx's own connection pool slows down with every connection it holds (docs/decisions); its
request and response types cost next to nothing. Replace this function to change the library.
"""

import ssl

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

KEEPALIVE_SECONDS = 10.0  # below the usual idle timeout of servers and load balancers


def open_transport(concurrency: int, ca_file: str = "") -> httpx.AsyncBaseTransport:
    """A transport for up to `concurrency` calls at once; TLS verified, no cookies, no redirects.

    With `ca_file`, by its certificates alone. Must be called and closed inside the event loop that
    uses it.
    """
    context = ssl.create_default_context(cafile=ca_file) if ca_file else httpx.create_ssl_context()

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=concurrency, keepalive_timeout=KEEPALIVE_SECONDS, ssl=context
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    return _Transport(verify=context, client=session)


class UntrustedCertificateError(httpx.ConnectError):
    """The upstream's certificate is not by a known CA, or not its own."""


class _Transport(AiohttpTransport):
    """Turns errors of aiohttp into httpx's, as AiohttpTransport does not.

    That for what is no HTTP would show the request's headers in its repr, a certificate that
    cannot be verified would pass for a timeout, and a reason phrase that is not UTF-8 text falls
    over.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await super().handle_async_request(request)
        except (aiohttp.ClientResponseError, UnicodeEncodeError) as error:
            raise httpx.RemoteProtocolError(type(error).__name__) from None
        except httpx.TransportError as error:
            if isinstance(error.__cause__, aiohttp.ClientConnectorCertificateError):
                raise UntrustedCertificateError("certificate verify failed") from None
            raise
