"""Clients of the store, sync and async: of one Redis, of what sentinels name, of a cluster."""

from typing import Any, cast

from redis import Redis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelConnectionPool
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import SSLConnection, parse_url
from redis.sentinel import Sentinel, SentinelConnectionPool

from ...config.urls import StoreAddress, store_address


class _Pool(SentinelConnectionPool):
    """Closes the connections to the sentinels with its own; redis-py leaves them open."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        super().disconnect(inuse_connections)
        for sentinel in self.sentinel_manager.sentinels if inuse_connections else ():
            sentinel.close()


class _AsyncPool(AsyncSentinelConnectionPool):
    """The same in an event loop."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        for sentinel in self.sentinel_manager.sentinels if inuse_connections else ():
            await sentinel.aclose()


_WAITS: dict[str, Any] = {"socket_timeout": 10, "socket_connect_timeout": 5}
# A sentinel that does not answer by then is passed over.
_SENTINEL_WAITS: dict[str, Any] = {"socket_timeout": 1, "socket_connect_timeout": 1}


def open_redis(url: str) -> Redis:
    """A client for threads, with bounded waits and answers as bytes."""
    address = store_address(url)
    if address.kind == "sentinel":
        return cast("Redis", _master(Sentinel, _Pool, address, _WAITS))
    if address.kind == "cluster":
        return cast("Redis", _cluster(RedisCluster, ClusterNode, address, _WAITS))
    return Redis.from_url(address.url, **_WAITS)


def open_async_redis(url: str, most_connections: int | None = None, **more: Any) -> AsyncRedis:  # noqa: ANN401
    """A client for one event loop; who finds none of `most_connections` free waits.

    The library can make nobody wait for a connection of a cluster or of what sentinels name.
    """
    address, more = store_address(url), _WAITS | more
    if address.kind == "sentinel":
        return cast("AsyncRedis", _master(AsyncSentinel, _AsyncPool, address, more))
    if address.kind == "cluster":
        return cast("AsyncRedis", _cluster(AsyncRedisCluster, AsyncClusterNode, address, more))
    if most_connections is None:
        return AsyncRedis.from_url(address.url, **more)
    pool = BlockingConnectionPool.from_url(address.url, max_connections=most_connections, **more)
    return AsyncRedis.from_pool(pool)


# redis-py's sentinels and cluster are hardly typed, and alike for sync and async.
def _master(sentinels: Any, pool: Any, address: StoreAddress, more: dict[str, Any]) -> Any:  # noqa: ANN401
    options = _options(address)
    of_sentinels = _SENTINEL_WAITS | {k: v for k, v in options.items() if k.startswith("ssl")}
    of_sentinels |= address.sentinel_access
    manager = sentinels(address.nodes, sentinel_kwargs=of_sentinels)
    return manager.master_for(address.master, connection_pool_class=pool, **options, **more)


def _cluster(cluster: Any, node: Any, address: StoreAddress, more: dict[str, Any]) -> Any:  # noqa: ANN401
    options = _options(address) | more
    options.pop("db", None)
    return cluster(startup_nodes=[node(*one) for one in address.nodes], **options)


def _options(address: StoreAddress) -> dict[str, Any]:
    """What the URL says beside where: who logs in, which database, and how TLS is verified."""
    parse: Any = parse_url
    options: dict[str, Any] = dict(parse(address.url))
    options["ssl"] = options.pop("connection_class", None) is SSLConnection
    return {name: value for name, value in options.items() if name not in {"host", "port"}}
