"""URLs of Redis and of the upstream, as settings take them."""

from ipaddress import ip_address
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, SecretStr


def _parts(value: str) -> SplitResult:
    """Take a URL apart; the ValueError never repeats it, as urlsplit's own may."""
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise ValueError("must be a URL of printable ASCII without spaces (escape others with %)")
    try:
        parts = urlsplit(value)
        _ = parts.port  # read here, as it is only checked when it is read
    except ValueError:
        raise ValueError(
            "must be a URL with a host and a port from 0 to 65535 (escape a password with %)"
        ) from None
    return parts


def _redis_server_url(value: SecretStr) -> SecretStr:
    parts = _parts(value.get_secret_value())
    if parts.scheme not in {"redis", "rediss"}:
        raise ValueError("must be a URL such as redis://127.0.0.1:6379/0 or rediss://…")
    database = parts.path.strip("/")
    if database and not database.isdecimal():
        raise ValueError("must end with the number of a database, such as /0")
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    if _parts(value.get_secret_value()).scheme == "unix":
        return value
    return _redis_server_url(value)


def _upstream_url(value: str) -> str:
    parts = _parts(value)
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ValueError("must be https, as secrets are sent to it (http is for loopback alone)")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be a URL such as https://api.dintero.com/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must be a bare URL, without credentials, query or fragment")
    return value.rstrip("/")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
# Celery knows no unix://
RedisServerUrl = Annotated[SecretStr, AfterValidator(_redis_server_url)]
UpstreamUrl = Annotated[str, AfterValidator(_upstream_url)]
