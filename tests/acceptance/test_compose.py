"""Each command of docker-compose.yml, started as a process of its own with its environment.

There need be no container engine: what an image adds to these commands is a user and a folder.
The services' URLs are pointed at the Redis that compose's own command started.
"""

import os
import shlex
import socket
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from subtokens.config.celeryconfig import QUEUES
from subtokens.workers.private_redis import RedisServerMissing, find_server
from subtokens.workers.processes import Child

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

# What .env would hold.
CREDENTIALS = {
    "SUBTOKENS_PARTNER_ID": "T11200000",
    "SUBTOKENS_CLIENT_ID": "canary-client-id",
    "SUBTOKENS_CLIENT_SECRET": "canary-client-secret",
    "SUBTOKENS_ENCRYPTION_KEYS": f"k1:{b64encode(b'canary-key' + bytes(22)).decode()}",
    "SUBTOKENS_BASE_URL": "http://127.0.0.1:9/v1",
}


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    """Whether `condition` comes true before the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def command(service: str) -> list[str]:
    """The service's command, with the programs of this machine."""
    program, *options = shlex.split(SERVICES[service]["command"])
    if program == "redis-server":
        return [str(find_server()), *options]
    return [str(Path(sys.executable).with_name(program)), *options]


def environment(service: str, port: int) -> dict[str, str]:
    """The service's environment on top of .env's, with its Redis on this machine."""
    own: dict[str, str] = SERVICES[service].get("environment", {})
    return {
        **{name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ},
        **(CREDENTIALS if SERVICES[service].get("env_file") == ".env" else {}),
        **{
            name: text.replace("//redis:6379/", f"//127.0.0.1:{port}/")
            for name, text in own.items()
        },
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compose")


@pytest.fixture(scope="module")
def redis_service(folder: Path) -> Iterator[Redis]:
    """A client of the database that the broker uses, once compose's Redis answers."""
    try:
        line = command("redis")
    except RedisServerMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # As in its image, but for the port and the folder.
    line += ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    with (
        Child(line, environment("redis", port), folder / "redis.log") as child,
        Redis(host="127.0.0.1", port=port, db=0) as client,
    ):
        assert eventually(lambda: answers(client)), child.said()
        yield client


@pytest.fixture(scope="module")
def renewer(redis_service: Redis, folder: Path) -> Iterator[Child]:
    with start("renewer", redis_service, folder) as child:
        yield child


@pytest.fixture(scope="module")
def worker(redis_service: Redis, folder: Path) -> Iterator[Child]:
    with start("worker", redis_service, folder) as child:
        yield child


@pytest.fixture(scope="module")
def beat(redis_service: Redis, folder: Path) -> Iterator[Child]:
    with start("beat", redis_service, folder) as child:
        yield child


def start(service: str, client: Redis, folder: Path) -> Child:
    port = client.connection_pool.connection_kwargs["port"]
    home = folder / service
    home.mkdir()
    # In an empty folder, as in the image: nothing of the repository is in sight.
    line = ["/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(home), *command(service)]
    return Child(line, environment(service, port), folder / f"{service}.log")


def answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisConnectionError:
        return False


def test_the_services_are_redis_workers_for_both_lanes_and_beat() -> None:
    assert set(SERVICES) == {"redis", "renewer", "worker", "beat"}
    queues = [
        SERVICES[name]["command"].split("-Q ")[1].split()[0] for name in ("renewer", "worker")
    ]
    assert sorted(",".join(queues).split(",")) == sorted(QUEUES)


def test_redis_keeps_what_it_holds(redis_service: Redis) -> None:
    assert redis_service.config_get("appendonly")["appendonly"] == "yes"
    assert redis_service.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"


@pytest.mark.parametrize("service", ["renewer", "worker", "beat"])
def test_every_url_of_a_service_is_of_the_redis_service(service: str) -> None:
    urls = {k: v for k, v in SERVICES[service]["environment"].items() if k.endswith("_URL")}
    assert set(urls) == {"SUBTOKENS_BROKER_URL", "SUBTOKENS_STORE_URL"}
    assert all(url.startswith("redis://redis:6379/") for url in urls.values())


def test_beat_sends_the_sweep_the_renewer_runs_it_and_the_worker_gets_the_discovery(
    redis_service: Redis, renewer: Child, worker: Child, beat: Child
) -> None:
    assert eventually(lambda: bool(redis_service.exists("_kombu.binding.subtokens.sweep")))
    for child in (renewer, worker):
        assert eventually(lambda: " ready." in child.said() or not child.is_alive), child.said()  # noqa: B023
    done = "subtokens.renew_due"
    assert eventually(lambda: succeeded(renewer, done) or not beat.is_alive), beat.said()
    # There is no upstream at this address: the discovery that the sweep sent must say so.
    assert eventually(lambda: "Task subtokens.discover[" in worker.said()), worker.said()
    assert "Task subtokens.renew_due[" not in worker.said()
    assert all(child.is_alive for child in (renewer, worker, beat))


def test_beat_leaves_no_file_behind(beat: Child, folder: Path) -> None:
    assert eventually(lambda: "beat: Starting" in beat.said()), beat.said()
    assert list((folder / "beat").iterdir()) == []


def succeeded(worker: Child, task: str) -> bool:
    return any(task in line and "succeeded" in line for line in worker.said().splitlines())


def test_the_image_runs_as_a_user_and_takes_packages_by_hash_alone() -> None:
    steps = (ROOT / "Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in steps if line.startswith("USER ")]
    assert users
    assert "root" not in users
    assert "0" not in users
    installs = [line for line in steps if "pip install" in line]
    assert installs
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)


def test_all_that_the_image_copies_is_there_and_not_ignored() -> None:
    allowed = {
        line.removeprefix("!").strip()
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied: set[str] = set()
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            copied.update(line.split()[1:-1])
    assert copied == allowed
    assert not [name for name in copied if not (ROOT / name).exists()]
