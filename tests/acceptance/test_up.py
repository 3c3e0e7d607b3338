"""`subtokens up`: one command, three values, everything on one machine."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from subtokens.config.settings import PREFIX
from subtokens.workers.private_redis import LOOPBACK, PrivateRedis, free_port, is_free
from subtokens.workers.processes import Guarded
from subtokens.workers.up.keeper import Keeper

from .conftest import CANARY_SECRET, HERE, KEYS, PARTNER, Upstream, account_ids, eventually

ROOT = HERE.parents[1]
COMMAND = [sys.executable, "-m", "subtokens.workers.cli"]
pytestmark = [
    pytest.mark.faults,
    pytest.mark.usefixtures("redis_server"),
]  # else there is no server to be found


def living_in(folder: Path) -> list[str]:
    """The processes that work in the folder, with what they are."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended meanwhile
            continue
    return found


class Place:
    """A folder with a filled-in .env, and the ups that are started there; a context."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self.folder = folder
        self.data = folder / ".subtokens"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
        self.environment["SUBTOKENS_BASE_URL"] = base_url  # the one thing that is not for real
        values = {"PARTNER_ID": PARTNER, "CLIENT_ID": "sandbox-client-id"}
        values |= {"CLIENT_SECRET": CANARY_SECRET}
        example = (ROOT / ".env.example").read_text()
        for name, value in values.items():
            assert f"\nSUBTOKENS_{name}=\n" in example
            example = example.replace(f"\nSUBTOKENS_{name}=\n", f"\nSUBTOKENS_{name}={value}\n")
        (folder / ".env").write_text(example)
        self.ups: list[subprocess.Popen[bytes]] = []
        self.log = folder.parent / "up.log"
        self.port = free_port()  # of the status page

    def up(self, *options: str) -> "subprocess.Popen[bytes]":
        with self.log.open("wb") as log:
            up = subprocess.Popen(
                [*COMMAND, "up", "--monitor-port", str(self.port), *options],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.ups.append(up)
        return up

    def await_up(self, *options: str) -> "subprocess.Popen[bytes]":
        up = self.up(*options)
        eventually(
            lambda: "all is up after" in self.said() or up.poll() is not None, told=self.said
        )
        assert up.poll() is None, self.said()
        return up

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def refused(self, *options: str) -> tuple[int, str]:
        done = subprocess.run(
            [*COMMAND, "up", *options],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.returncode, done.stderr

    def status(self) -> str:
        done = subprocess.run(
            ["/bin/sh", "-c", '. .subtokens/environment && exec "$@"', "sh", *COMMAND, "status"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(accounts=60) as upstream:
        yield upstream


@pytest.fixture
def place(upstream: Upstream, tmp_path: Path) -> Iterator[Place]:
    folder = tmp_path / "place"
    folder.mkdir()
    place = Place(folder, upstream.base_url)
    yield place
    for up in place.ups:
        up.kill()
        up.wait()
    eventually(lambda: not living_in(folder), told=lambda: living_in(folder))


def stop(up: "subprocess.Popen[bytes]", number: signal.Signals = signal.SIGINT) -> int:
    up.send_signal(number)
    return up.wait(60)


def test_three_values_are_enough_and_the_next_up_goes_on_from_what_was_kept(
    place: Place, upstream: Upstream
) -> None:
    place.environment["SUBTOKENS_LOG_LEVEL"] = "DEBUG"  # else a sweep is not told
    began = time.monotonic()
    up = place.await_up("--workers", "2")
    eventually(lambda: has_swept(place.said()))
    print(f"first sweep after {time.monotonic() - began:.1f} s")  # noqa: T201 - a figure, with -rP
    eventually(lambda: upstream.stats()["calls"]["exchange"] == 60)
    eventually(lambda: "60 valid" in place.status())
    eventually(lambda: f"http://127.0.0.1:{place.port}/" in place.said())
    with urllib.request.urlopen(f"http://127.0.0.1:{place.port}/readyz") as answer:
        assert answer.read() == b"ready\n"
    for path in [place.data, *place.data.iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    code, complaint = place.refused()
    assert code == 1
    assert str(place.data) in complaint
    assert f"process {up.pid}" in complaint
    assert stop(up) == 0
    assert not living_in(place.folder)
    assert "one is made and kept" in place.said()
    assert "CANARY" not in place.said()
    kept = {name: (place.data / name).read_text() for name in ("redis.port", "encryption.keys")}
    for secret in ("redis.password", "encryption.keys"):
        assert (place.data / secret).read_text().strip() not in place.said()

    up = place.await_up()
    assert "60 valid" in place.status()
    assert stop(up, signal.SIGTERM) == 0
    assert kept == {name: (place.data / name).read_text() for name in kept}
    assert "one is made and kept" not in place.said()
    assert upstream.stats()["calls"]["exchange"] == 60


def has_swept(said: str) -> bool:
    return any("renew_due[" in line and "succeeded" in line for line in said.splitlines())


def test_whatever_dies_is_started_again(place: Place, upstream: Upstream) -> None:
    up = place.await_up()
    port = (place.data / "redis.port").read_text().strip()
    for name, title in {
        "redis": rf"redis-server {LOOPBACK}:{port}",
        "worker1": "--hostname=worker1@up",
        "beat": "subtokens.workers beat",
    }.items():
        before = next(iter(pids_of(place.folder, title)))
        os.kill(before, signal.SIGKILL)
        eventually(lambda name=name: f"{name} ended with -9; again in 1 s" in place.said())
        eventually(
            lambda title=title, before=before: set(pids_of(place.folder, title)) - {before},
            told=place.said,
        )
    shutil.rmtree(place.data / "health")
    (place.data / "health").mkdir()
    eventually(lambda: (place.data / "health" / "worker1@up.alive").exists(), told=place.said)
    eventually(lambda: (place.data / "health" / "renewer@up.alive").exists(), told=place.said)
    # What was under way is due again when its lease of a minute ends; some may be done twice.
    eventually(lambda: upstream.has_exchanged(account_ids(1, 60)), within=90)
    assert stop(up) == 0


def test_a_status_page_whose_port_is_taken_is_told_and_the_rest_goes_on(place: Place) -> None:
    with PrivateRedis() as other:
        place.port = other.port
        up = place.await_up()
        assert f"no status page: port {other.port} is taken" in place.said()
        assert stop(up) == 0


def pids_of(folder: Path, title: str) -> list[int]:
    """The processes in the folder that ps shows with that title, the oldest first."""
    found = subprocess.run(["pgrep", "-f", "--", title], capture_output=True, text=True).stdout
    return [
        pid
        for pid in map(int, found.split())
        if os.access(f"/proc/{pid}/cwd", os.R_OK)
        and Path(f"/proc/{pid}/cwd").resolve().is_relative_to(folder)
    ]


def test_no_child_outlives_an_up_that_is_killed_and_the_next_one_starts(place: Place) -> None:
    up = place.await_up()
    assert len(living_in(place.folder)) >= 10
    up.kill()
    up.wait()
    eventually(lambda: not living_in(place.folder), told=lambda: living_in(place.folder))
    assert stop(place.await_up()) == 0


def test_the_first_ctrl_c_waits_for_a_ticket_under_way_and_the_second_does_not(
    place: Place, upstream: Upstream
) -> None:
    with upstream.troubled(latency_seconds=9.0):
        up = place.await_up()
        eventually(lambda: upstream.stats()["calls"]["exchange"] > 0, told=place.said)
        up.send_signal(signal.SIGINT)
        eventually(lambda: "Warm shutdown" in place.said())
        began = time.monotonic()
        assert stop(up) == 0
    assert time.monotonic() - began < 5
    assert not living_in(place.folder)


def test_a_redis_that_is_named_is_used_and_none_is_started(
    place: Place, upstream: Upstream, redis_server: PrivateRedis
) -> None:
    place.environment |= {
        "SUBTOKENS_BROKER_URL": redis_server.url(8),
        "SUBTOKENS_STORE_URL": redis_server.url(9),
        "SUBTOKENS_ENCRYPTION_KEYS": KEYS,
    }
    up = place.await_up("--data-folder", "elsewhere")
    eventually(lambda: upstream.stats()["calls"]["exchange"] == 60)
    assert not pids_of(place.folder, "redis-server")
    assert stop(up) == 0
    kept = {path.name for path in (place.folder / "elsewhere").iterdir()}
    assert kept == {".gitignore", "environment", "health", "lock"}


def test_what_cannot_be_is_refused_before_anything_starts(place: Place) -> None:
    (place.folder / "full").mkdir()
    (place.folder / "full" / "letter").touch()
    mode = (place.folder / "full").stat().st_mode
    code, complaint = place.refused("--data-folder", "full")
    assert (code, "files of others" in complaint) == (2, True)
    assert (place.folder / "full").stat().st_mode == mode
    place.environment["SUBTOKENS_RATE_LIMIT"] = "-1"
    code, complaint = place.refused()
    assert (code, "SUBTOKENS_RATE_LIMIT" in complaint) == (2, True)
    assert not (place.data / "redis").exists()


def test_a_port_that_others_took_meanwhile_is_given_up(place: Place) -> None:
    stop(place.await_up())
    port = int((place.data / "redis.port").read_text())
    assert is_free(port)
    with PrivateRedis() as other:
        (place.data / "redis.port").write_text(f"{other.port}\n")
        assert stop(place.await_up()) == 0
        assert int((place.data / "redis.port").read_text()) not in {other.port, 0}


def test_data_that_redis_cannot_read_is_told_instead_of_tried_forever(place: Place) -> None:
    stop(place.await_up())
    (place.data / "redis" / "appendonly.aof").write_bytes(b"*1\r\nnonsense\r\n" * 9)
    shutil.rmtree(place.data / "redis" / "appendonlydir", ignore_errors=True)  # Redis 7's
    up = place.up()
    assert up.wait(30) == 1
    assert "Bad file format" in place.said()
    assert "Redis ended at once" in place.said()


def test_a_child_does_not_begin_before_its_guard_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen

    def without_guard(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        if "guard" in command:
            raise OSError("no more processes")
        return popen(command, **options)

    monkeypatch.setattr(subprocess, "Popen", without_guard)
    with pytest.raises(OSError, match="no more processes"):
        Guarded(["/usr/bin/env", "touch", str(tmp_path / "begun")], {})
    assert not (tmp_path / "begun").exists()


# How eagerly it starts again


def test_a_child_that_dies_is_started_ever_less_eagerly_until_it_lives_a_minute(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    child = Keeper("child", ["/bin/sh", "-c", "read -r _; echo gone; exit 7"], {}, lambda: now[0])

    def dies_after(seconds: float) -> str:
        child.look()
        now[0] += seconds
        eventually(lambda: not child.is_alive)  # it has no input to read
        child.look()
        said = capsys.readouterr().out.splitlines()
        assert said[0].split() == ["child", "│", "gone"]
        return said[1].split("again in ")[1]

    delays = []
    for _ in range(7):
        delays.append(dies_after(1))
        child.look()
        assert not child.is_alive
        now[0] += float(delays[-1].removesuffix(" s"))
    assert delays == ["1 s", "2 s", "4 s", "8 s", "16 s", "30 s", "30 s"]
    assert dies_after(60) == "1 s"


def test_make_up_sets_up_and_runs_it(tmp_path: Path) -> None:
    said = subprocess.run(
        ["make", "--no-print-directory", "-n", "up", "ARGS=--workers 4"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout
    assert said.splitlines() == [".ci/set-up demo", ".venv/bin/subtokens up --workers 4"]
