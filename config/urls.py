"""URLs of Redis and of the upstream, as settings take them."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import SplitResult, parse_qs, parse_qsl, urlencode, urlsplit

from pydantic import AfterValidator, SecretStr
from redis import Redis
from redis.exceptions import RedisError

from .secrecy import NeverPickled

_ACCESS = {"sentinel_username": "username", "sentinel_password": "password"}


@dataclass(frozen=True, slots=True, repr=False)  # its URL may hold a password
class StoreAddress(NeverPickled):
    """Where the store is: one server, one that sentinels name, or a cluster."""

    url: str  # of the server, or of the first node
    kind: str = ""  # or "sentinel" or "cluster"
    nodes: tuple[tuple[str, int], ...] = ()  # the sentinels, or nodes of the cluster
    master: str = ""  # by what name the sentinels know it
    sentinel_access: Mapping[str, str] = field(default_factory=dict)  # to the sentinels themselves


def store_address(value: str) -> StoreAddress:
    """Take the store's URL apart. Raises ValueError, which never repeats it."""
    head, _, rest = value.partition("://")
    scheme, _, kind = head.partition("+")
    if not kind:
        return StoreAddress(value)
    if scheme not in {"redis", "rediss"} or kind not in {"sentinel", "cluster"}:
        raise ValueError("must begin with redis://, rediss://, redis+sentinel:// or …+cluster://")
    # urlsplit takes one host alone, and newer ones say so where another stands in brackets.
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    access, at, hosts = authority.rpartition("@")
    split = [_parts(f"redis://{host}") for host in hosts.split(",")]
    default = 26379 if kind == "sentinel" else 6379
    nodes = tuple((one.hostname or "", one.port or default) for one in split)
    if not all(host for host, _ in nodes):
        raise ValueError("must name hosts by comma: redis+cluster://one:6379,two:6379")
    host, port = nodes[0]
    first = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    parts = _parts(f"{scheme}://{access}{at}{first}{rest.removeprefix(authority)}")
    master, _, database = parts.path.strip("/").rpartition("/")
    if kind == "sentinel" and not (master and "/" not in master and database.isdecimal()):
        raise ValueError("must end with the master's name and a database, such as /mymaster/0")
    if kind == "cluster" and (master or database not in {"", "0"}):
        raise ValueError("must name no database: a cluster has one alone")
    # redis-py takes all other options, and would refuse these.
    options = parse_qsl(parts.query)
    query = urlencode([(name, value) for name, value in options if name not in _ACCESS])
    access_to_them = {_ACCESS[name]: value for name, value in options if name in _ACCESS}
    url = parts._replace(path=f"/{database}", query=query).geturl()
    return StoreAddress(url, kind, nodes, master, access_to_them)


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


def celery_address(value: str) -> tuple[str, dict[str, Any]]:
    """A URL as Celery takes it, and the options of its transport beside."""
    address = store_address(value)
    if not address.kind:
        return value, {}
    first = urlsplit(address.url)
    access, at, _ = first.netloc.rpartition("@")
    hosts = (f"[{host}]" if ":" in host else host for host, _ in address.nodes)
    ports = (port for _, port in address.nodes)
    each = zip(hosts, ports, strict=True)
    urls = (f"sentinel://{access}{at}{host}:{port}{first.path}" for host, port in each)
    to_sentinels = dict(address.sentinel_access)
    more = {"sentinel_kwargs": to_sentinels} if to_sentinels else {}
    return ";".join(urls), {"master_name": address.master, **more}


def _broker_url(value: SecretStr) -> SecretStr:
    address = store_address(value.get_secret_value())
    if address.kind == "cluster" or (address.kind and not address.url.startswith("redis:")):
        raise ValueError("must be one Redis or redis+sentinel://: Celery knows no cluster")
    _check_server(_parts(address.url))
    return value


def _check_server(parts: SplitResult) -> None:
    if parts.scheme not in {"redis", "rediss"}:
        raise ValueError("must be a URL such as redis://127.0.0.1:6379/0 or rediss://…")
    database = parts.path.strip("/")
    if database and not database.isdecimal():
        raise ValueError("must end with the number of a database, such as /0")
    given = parse_qs(parts.query)
    if parts.scheme != "rediss" and any(name.startswith("ssl_") for name in given):
        raise ValueError("must begin with rediss where it names ssl_ca_certs and the like")
    if not all(os.access(file, os.R_OK) for file in given.get("ssl_ca_certs", ())):
        raise ValueError("names a file in ssl_ca_certs that cannot be read")


def _readable(value: str) -> str:
    if value and not os.access(value, os.R_OK):
        raise ValueError("is a file that cannot be read")
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    address = store_address(value.get_secret_value())
    parts = _parts(address.url)
    if parts.scheme != "unix":
        _check_server(parts)
    try:
        Redis.from_url(address.url).connection_pool.make_connection()  # which does not connect
    except (ValueError, TypeError, RedisError):
        raise ValueError("has an option behind its ? that redis-py does not know or take") from None
    return value


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
RedisServerUrl = Annotated[SecretStr, AfterValidator(_broker_url)]
UpstreamUrl = Annotated[str, AfterValidator(_upstream_url)]
CaFile = Annotated[str, AfterValidator(_readable)]
