"""Checks of what Redis servers told; each gives what it found."""

from .clocks import clock
from .finding import Finding, doubtful, failed, well
from .servers import Server

_OLDEST = (6, 2)
_FULL_SHARE = 0.7


def checks_of(store: Server, broker: Server | None) -> list[Finding]:
    """All that is told by the servers that answer."""
    found = [clock("clock of Redis", "the store's", store.ahead_seconds)]
    if store.info:
        found += [eviction(store), persistence(store), memory(store)]
    if broker:
        if broker.info and not is_same_server(store, broker):
            found += [eviction(broker), memory(broker)]
        found += [sharing(store, broker), *other_apps(broker)]
    return found


def answering(server: Server) -> Finding:
    """That it answers, with its version; whether it can be written to."""
    info, name = server.info, server.role
    if not info:
        return doubtful(
            name,
            f"{server.place} answers, but its version, eviction, persistence and memory could not "
            "be looked at: its user may not ask INFO",
            f"give the user of {server.setting} +info, or look there by hand",
        )
    told = str(info.get("valkey_version") or info.get("redis_version") or "0")
    product = "Valkey" if "valkey_version" in info else "Redis"
    version = tuple(int(part) for part in told.split(".")[:2] if part.isdecimal())
    if product == "Redis" and version < _OLDEST:
        remedy = "upgrade it to 6.2 or later, or to Valkey"
        return failed(name, f"{server.place} is Redis {told}, too old", remedy)
    if info.get("role") == "slave" and not info.get("cluster_enabled"):
        text = f"{server.place} is a replica, which takes no writes"
        return failed(name, text, f"name the primary in {server.setting}")
    return well(name, f"{product} {told} answers at {server.place}")


def eviction(server: Server) -> Finding:
    """That it never drops keys to make room."""
    name = f"{server.role} eviction"
    policy = server.info.get("maxmemory_policy")
    remedy = "CONFIG SET maxmemory-policy noeviction, and in its configuration file"
    if policy == "noeviction":
        return well(name, "maxmemory-policy is noeviction")
    if policy is None:
        text = "maxmemory-policy could not be looked at"
        return doubtful(name, text, "see to it that it is noeviction")
    text = f"maxmemory-policy is {policy}: tokens and turns vanish when memory is short"
    if server.role == "store" and server.info.get("maxmemory"):
        return failed(name, text, remedy)
    return doubtful(name, text, remedy)


def persistence(server: Server) -> Finding:
    """That a restart of the server does not cost every token."""
    name, info = f"{server.role} persistence", server.info
    if info.get("aof_enabled"):
        return well(name, "append-only file")
    if info.get("connected_slaves"):
        return well(name, f"{info['connected_slaves']} replicas, no append-only file")
    return doubtful(
        name,
        "neither an append-only file nor a replica: its restart costs all tokens",
        "CONFIG SET appendonly yes, and in its configuration file",
    )


def memory(server: Server) -> Finding:
    """That there is room."""
    name, used, most = (
        f"{server.role} memory",
        *map(server.info.get, ("used_memory", "maxmemory")),
    )
    if not used or not most:
        return well(name, f"{(used or 0) / 2**20:.0f} MiB used, without a limit")
    text = f"{used / most:.0%} of {most / 2**20:.0f} MiB used"
    if used / most <= _FULL_SHARE:
        return well(name, text)
    return doubtful(name, text, "raise maxmemory: writes fail when it is full")


def sharing(store: Server, broker: Server) -> Finding:
    """Whether one server has two duties that want different care."""
    name = "broker and store"
    if not is_same_server(store, broker):
        return well(name, "two servers")
    if store.place.rpartition("/")[2] == broker.place.rpartition("/")[2]:
        return doubtful(
            name,
            "one database: to flush a broker's backlog would drop the tokens too",
            "end SUBTOKENS_STORE_URL with another number, such as /1",
        )
    text = "one server, two databases: its eviction, memory and persistence are those of both"
    return well(name, text)


def is_same_server(store: Server, broker: Server) -> bool:
    """By its own word, else by its address."""
    if store.info and broker.info:
        return bool(store.info.get("run_id") == broker.info.get("run_id"))
    return store.place.rpartition("/")[0] == broker.place.rpartition("/")[0]


def other_apps(broker: Server) -> list[Finding]:
    """Whether another Celery app shares the broker: good to know, as ours keeps apart."""
    if not broker.foreign:
        return []
    text = f"another Celery app shares the broker ({', '.join(broker.foreign)}); ours keeps apart"
    return [well("other apps", text)]
