"""Several Redis servers together: a master with its replica and sentinels, or a cluster."""

import os
import random
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from redis import Redis
from redis.exceptions import RedisError

from subtokens.workers.private_redis import find_server
from subtokens.workers.processes import Child

from .conftest import eventually

MASTER = "mymaster"
SLOTS = 16_384


def free_port() -> int:
    """A port whose cluster bus, 10,000 above it, is free as well."""
    while True:
        port = random.randrange(21_000, 31_000)
        with socket.socket() as one, socket.socket() as bus:
            try:
                one.bind(("127.0.0.1", port))
                bus.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


class Redises:
    """Servers on loopback, each with a folder of its own; a context that ends them."""

    def __init__(self, folder: Path, password: str = "") -> None:
        folder.mkdir()
        self._password = password  # of each server, and of what it is a replica of
        self._folder, self._stack, self._binary = folder, ExitStack(), str(find_server())
        self.servers: dict[int, Child] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, conf: str = "", *options: str) -> int:
        """Start one by a configuration file, as sentinels rewrite theirs; returns its port."""
        port = free_port()
        home = self._folder / str(port)
        home.mkdir()
        if self._password:
            conf += f"requirepass {self._password}\n"
        (home / "redis.conf").write_text(f'bind 127.0.0.1\nport {port}\ndir "{home}"\n{conf}')
        command = [self._binary, str(home / "redis.conf"), *options]
        child = Child(command, dict(os.environ), home / "log")
        self._stack.callback(child.kill)
        self.servers[port] = child
        eventually(lambda: self.ask(port, "PING"), told=child.said)
        return port

    def ask(self, port: int, *command: str | int) -> Any:
        """What it answers, or None where it does not."""
        try:
            access = self._password or None
            with Redis(
                port=port, password=access, socket_timeout=2, decode_responses=True
            ) as client:
                return client.execute_command(*command)
        except RedisError:
            return None


class Watched(Redises):
    """A master, a replica and three sentinels that take one second to find the master dead."""

    def __enter__(self) -> Self:
        access = f"masterauth {self._password}\n" if self._password else ""
        self.master = self.start(f'save ""\n{access}')
        self.replica = self.start(f'save ""\n{access}replicaof 127.0.0.1 {self.master}\n')
        watch = (
            f"sentinel monitor {MASTER} 127.0.0.1 {self.master} 2\n"
            f"sentinel down-after-milliseconds {MASTER} 1000\n"
            f"sentinel failover-timeout {MASTER} 3000\n"
        )
        if self._password:
            watch += f"sentinel auth-pass {MASTER} {self._password}\n"
        self.sentinels = [self.start(watch, "--sentinel") for _ in range(3)]
        eventually(lambda: all(self._knows_all(port) for port in self.sentinels))
        return self

    def _knows_all(self, sentinel: int) -> bool:
        state = self.ask(sentinel, "SENTINEL", "MASTER", MASTER) or {}
        if isinstance(state, list):
            state = dict(zip(state[::2], state[1::2], strict=True))
        known = [int(state.get(name, 0)) for name in ("num-other-sentinels", "num-slaves")]
        return known == [2, 1]

    def kill_master(self) -> None:
        self.servers[self.master].kill()

    def has_failed_over(self) -> bool:
        found = self.ask(self.sentinels[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
        return bool(found) and int(found[1]) == self.replica


class Cluster(Redises):
    """Three masters, each with a third of the slots."""

    def __enter__(self) -> Self:
        enabled = 'save ""\ncluster-enabled yes\n'
        self.nodes = [self.start(enabled) for _ in range(3)]
        for number, port in enumerate(self.nodes):
            slots = range(number * SLOTS // 3, (number + 1) * SLOTS // 3)
            assert self.ask(port, "CLUSTER", "ADDSLOTS", *slots)
            assert self.ask(port, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            self.ask(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", port)
        eventually(lambda: all(self._is_whole(port) for port in self.nodes))
        return self

    def _is_whole(self, port: int) -> bool:
        told = str(self.ask(port, "CLUSTER", "INFO"))
        nodes = str(self.ask(port, "CLUSTER", "SLOTS"))
        return ("cluster_state:ok" in told or "'cluster_state': 'ok'" in told) and all(
            str(node) in nodes for node in self.nodes
        )
