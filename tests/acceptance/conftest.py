"""Real parts: a sandbox over HTTP, worker processes, a private Redis; and waits with a deadline."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import pytest
from celery import Celery
from celery.canvas import Signature
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from subtokens.config.queues import RENEWER_QUEUES, WORKER_QUEUES
from subtokens.config.settings import PREFIX, Settings
from subtokens.tasks.exchange import fan_out
from subtokens.tasks.tokens.keys import PartnerKeys
from subtokens.tasks.tokens.reader import TokenReader
from subtokens.tasks.tokens.renewal import Cadence, window
from subtokens.tasks.tokens.sealing import Sealer
from subtokens.tasks.tokens.store import TokenStore
from subtokens.workers.application import make_app
from subtokens.workers.private_redis import PrivateRedis
from subtokens.workers.processes import Child
from subtokens.workers.sandbox import SandboxOptions, SandboxState, serving

PARTNER = "T11200000"
CANARY_SECRET = "CANARY-client-secret"
KEYS = "k1:Q0FOQVJZLW1hc3Rlci1rZXktb2YtMzItYnl0ZXMtISE="
DEADLINE_SECONDS = 30.0
FAR_AHEAD_MS = 2_000_000_000_000
# The recommended split: whoever renews never waits for a fan-out.
RENEWING = ("-Q", ",".join(RENEWER_QUEUES))
EXCHANGING = ("-Q", ",".join(WORKER_QUEUES))
HERE = Path(__file__).parent
T = TypeVar("T")


def eventually(
    look: Callable[[], T],
    *,
    told: Callable[[], object] = lambda: "",
    within: float = DEADLINE_SECONDS,
    every: float = 0.02,
) -> T:
    """Wait until `look` gives something true and return it; fail at the deadline, with `told`."""
    ends_at = time.monotonic() + within
    while not (seen := look()):
        if time.monotonic() > ends_at:
            pytest.fail(f"it did not come about in {within:g} s: {seen!r} {told()}")
        time.sleep(every)
    return seen


def account(number: int) -> str:
    return f"{PARTNER[:4]}{number:05}"


def account_ids(first: int, count: int) -> list[str]:
    return [account(number) for number in range(first, first + count)]


class Call(NamedTuple):
    """A row of what the sandbox saw."""

    number: int
    seconds: float
    kind: str
    account: str
    status: int


def exchanges(calls: list[Call]) -> dict[str, list[float]]:
    """When each account was exchanged, by seconds since the sandbox's start."""
    found: dict[str, list[float]] = {}
    for call in calls:
        if call.kind == "exchange":
            found.setdefault(call.account, []).append(call.seconds)
    return found


class Upstream:
    """A sandbox in a thread, over real HTTP; a context. What it saw is asked for over HTTP."""

    def __init__(self, **options: Any) -> None:
        self._options = SandboxOptions(client_secret=CANARY_SECRET, **options)
        self.partner_id = self._options.partner_id
        self._up, self._done = threading.Event(), asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._state: SandboxState

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(DEADLINE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(DEADLINE_SECONDS)

    def _run(self) -> None:
        async def serve() -> None:
            async with serving(self._options) as sandbox:
                self.base_url, self._state = sandbox.base_url, sandbox.state
                self._up.set()
                await self._done.wait()

        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(serve())

    @contextmanager
    def troubled(self, **options: float | str) -> Iterator[None]:
        """Answer with errors, as the options of that name say."""
        self._state.options = self._options.model_copy(update=options)
        if options.get("revoked") == "tokens":
            self._state.tokens.revoke_partners()
        try:
            yield
        finally:
            self._state.options = self._options

    def calls(self, after: int = 0) -> list[Call]:
        """The calls numbered above `after`, in their order."""
        return [Call(*row) for row in self._report(f"calls?after={after}")]

    def calls_of(self, accounts: list[str], after: int = 0) -> list[Call]:
        """The exchanges of these accounts numbered above `after`."""
        chosen = set(accounts)
        calls = self.calls(after)
        return [call for call in calls if call.kind == "exchange" and call.account in chosen]

    def has_exchanged(self, accounts: list[str], after: int = 0) -> bool:
        """Whether each of these has been exchanged since."""
        return len(exchanges(self.calls_of(accounts, after))) == len(accounts)

    def now(self) -> float:
        """Seconds since its start, as the calls have them."""
        elapsed: float = self.stats()["elapsed_seconds"]
        return elapsed

    def last(self) -> int:
        """The number of the last call."""
        number: int = self.stats()["total"]
        return number

    def stats(self) -> Any:
        return self._report("stats")

    def _report(self, name: str) -> Any:
        url = f"{self.base_url.removesuffix('/v1')}/__sandbox/{name}"
        with urllib.request.urlopen(url) as answer:
            return json.load(answer)


def partners_file(folder: Path, rates: Mapping[Upstream, float]) -> Path:
    """A file of partners, each at an upstream of its own, with its rate limit."""
    file = folder / "partners.toml"
    tables = [
        f'[[partner]]\nid = "{upstream.partner_id}"\nclient_id = "sandbox-client-id"\n'
        f'client_secret = "{CANARY_SECRET}"\nbase_url = "{upstream.base_url}"\n'
        f"rate_limit = {rate}\n"
        for upstream, rate in rates.items()
    ]
    file.write_text("\n".join(tables))
    file.chmod(0o600)
    return file


class Finished(NamedTuple):
    """What became of a command."""

    code: int
    out: str
    err: str


class Site:
    """One deployment: a Redis, settings, and the processes started in it; a context.

    Its Redis keeps what it holds over a kill where `append_only` is set.
    """

    def __init__(
        self, folder: Path, base_url: str, *, append_only: bool = False, **settings: object
    ) -> None:
        self._stack = ExitStack()
        server = self._stack.enter_context(PrivateRedis(append_only=append_only))
        self.folder, self.server = folder, server
        self.environment = {
            "SUBTOKENS_PARTNER_ID": PARTNER,
            "SUBTOKENS_CLIENT_ID": "sandbox-client-id",
            "SUBTOKENS_CLIENT_SECRET": CANARY_SECRET,
            "SUBTOKENS_ENCRYPTION_KEYS": KEYS,
            "SUBTOKENS_BASE_URL": base_url,
            "SUBTOKENS_BROKER_URL": server.url(0),
            "SUBTOKENS_STORE_URL": server.url(1),
            "SUBTOKENS_RATE_LIMIT": "2000",
        } | {f"{PREFIX}{name.upper()}": str(value) for name, value in settings.items()}
        if "partners_file" in settings:  # which holds them
            for name in ("PARTNER_ID", "CLIENT_ID", "CLIENT_SECRET", "BASE_URL"):
                del self.environment[f"{PREFIX}{name}"]
        self.broker_url = self.environment["SUBTOKENS_BROKER_URL"]
        self.store_url = self.environment["SUBTOKENS_STORE_URL"]
        self.own_settings = Settings(
            **{
                name.removeprefix(PREFIX).lower(): value for name, value in self.environment.items()
            },
            _env_file=None,
        )
        self.app = make_app(self.own_settings)
        self.broker, self.store = Redis.from_url(self.broker_url), Redis.from_url(self.store_url)
        self.keys = PartnerKeys("subtokens", PARTNER)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        self._stack.callback(forget_results, self.app)
        self._stack.enter_context(self.broker)
        self._stack.enter_context(self.store)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def whole_environment(self) -> dict[str, str]:
        """The environment of a process of this site, with nothing of the developer's."""
        outside = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
        return outside | self.environment | {"PYTHONPATH": f"{self.folder}:{HERE}"}

    def celery(self, name: str, *command: str, app: str = "subtokens.workers") -> Child:
        """Start `celery -A app …` in this site's folder; it is killed when the site ends."""
        child = Child.python(
            "celery",
            *("--workdir", str(self.folder), "-A", app, *command),
            environment=self.whole_environment,
            log=self.log_of(name),
        )
        self._stack.callback(child.kill)
        return child

    def log_of(self, name: str) -> Path:
        """Where a process of that name logs to: beside the folder it works in."""
        return self.folder.parent / f"{self.folder.name}-{name}.log"

    def worker(self, name: str, *options: str, app: str = "subtokens.workers") -> Child:
        """Start a worker of two processes, unless told otherwise; `await_ready` before use."""
        given = ("--loglevel=INFO", "--concurrency=2", "--without-mingle", *options)
        return self.celery(name, "worker", f"--hostname={name}@test", *given, app=app)

    def cli(
        self, *arguments: str, stdin: str = "", environment: dict[str, str] | None = None
    ) -> Finished:
        """Run `subtokens …` to its end. None of its commands may ever show a traceback."""
        done = subprocess.run(
            [sys.executable, "-m", "subtokens.workers.cli", *arguments],
            env=self.whole_environment if environment is None else environment,
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        return Finished(done.returncode, done.stdout, done.stderr)

    def cli_together(
        self,
        commands: Mapping[str, tuple[str, ...]],
        environments: Mapping[str, dict[str, str]] | None = None,
    ) -> dict[str, Finished]:
        """Run commands that do not disturb each other at once; some in environments of theirs."""

        def run(name: str) -> Finished:
            return self.cli(*commands[name], environment=(environments or {}).get(name))

        with ThreadPoolExecutor(max_workers=4) as pool:
            return dict(zip(commands, pool.map(run, commands), strict=True))

    def status(self) -> dict[str, Any]:
        """What `subtokens status --json` says."""
        done = self.cli("status", "--json")
        assert done.code == 0, done.err
        found: dict[str, Any] = json.loads(done.out)
        return found

    def renewal_window(self, lifetime_seconds: float) -> tuple[float, float]:
        """From when to when after its issue a token of that lifetime is renewed here."""
        return window(lifetime_seconds, Cadence(self.own_settings.call_timeout_seconds))

    def enrol(self, accounts: list[str]) -> None:
        """Enrol accounts as an import does."""

        async def enrol(store: TokenStore) -> int:
            return await store.enrol([(account_id, "") for account_id in accounts], "imported")

        self._with_store(enrol)

    def let_failing_rest(self) -> None:
        """Keep those that back off from being tried: a refusal has others called as witnesses."""
        if failing := self.store.smembers(self.keys.failing):
            self.store.zadd(self.keys.due, dict.fromkeys(failing, FAR_AHEAD_MS), xx=True)

    def reader(self) -> TokenReader:
        return TokenReader(self.own_settings)

    def spoil_token(self, account_id: str) -> None:
        """Put a text that Dintero never issued in place of an account's token."""

        async def spoil(store: TokenStore) -> None:
            record = await store.load(account_id)
            assert record
            spoilt = replace(record, access_token=record.access_token[:-8] + "CANARY--")
            key = store.keys.token(account_id)
            await store.redis.set(key, store.sealer.seal(spoilt, key), keepttl=True)

        self._with_store(spoil)

    def parked_step(self, run_id: str) -> Signature:
        """The message that waits with a run, as whoever ends the run sends it."""
        parked = self.store.hget(self.keys.run(run_id), "continuation")
        assert isinstance(parked, bytes)
        signature: Signature = self.app.signature(json.loads(parked.split(b" ", 2)[2]))
        return signature

    def _with_store(self, work: Callable[[TokenStore], Awaitable[T]]) -> T:
        async def run() -> T:
            async with AsyncRedis.from_url(self.store_url) as redis:
                sealer = Sealer(PARTNER, self.own_settings.master_keys)
                return await work(TokenStore(redis, self.keys, sealer))

        return asyncio.run(run())


def await_ready(*workers: Child) -> None:
    for worker in workers:
        eventually(
            lambda worker=worker: not worker.is_alive or "ready." in worker.said(),
            told=worker.said,
        )
        assert worker.is_alive, worker.said()


def rounds_told(*processes: Child) -> list[str]:
    """The lines about what subtokens sends to itself each second; at info there are none."""
    names = ("subtokens.renew_due", "subtokens.watch_runs", "subtokens.work[")
    lines = [line for process in processes for line in process.said().splitlines()]
    told = ("received", "succeeded", "Sending due task")
    return [
        line for line in lines if any(n in line for n in names) and any(w in line for w in told)
    ]


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """A sandbox of 400 accounts; the last ten are not active."""
    with Upstream(accounts=400, inactive=10) as upstream:
        yield upstream


@pytest.fixture(scope="session")
def site(
    redis_server: PrivateRedis, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Our own app with one worker of two processes and no beat, all accounts enrolled."""
    folder = tmp_path_factory.mktemp("site") / "here"
    with Site(folder, upstream.base_url, log_level="DEBUG") as site:
        worker = site.worker("worker", "--loglevel=DEBUG", "--include=probes")
        site.enrol(account_ids(1, 400))
        await_ready(worker)
        with sending_by(site.app):  # what is due at once after enrolment comes first
            fan_out.si(policy=0.9).apply_async().get(timeout=DEADLINE_SECONDS)
        yield site


@pytest.fixture
def app(site: Site) -> Iterator[Celery]:
    """The app that this test's canvases are sent by."""
    with sending_by(site.app) as app:
        yield app


def forget_results(app: Celery) -> None:
    """Close an app; results that are collected later must not look for a Redis that is gone."""
    consumer = app.backend.result_consumer
    consumer.stop()
    consumer._pubsub = None
    app.close()


@contextmanager
def sending_by(app: Celery) -> Iterator[Celery]:
    """Make an app the current one, as importing it does for its user."""
    from celery import _state

    before = _state.get_current_app()
    app.set_current()
    try:
        yield app
    finally:
        before.set_current()


@pytest.fixture
def new_site(redis_server: PrivateRedis, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes a deployment of the test's own: `new_site(base_url, **settings)`."""
    with ExitStack() as stack:

        def new_site(base_url: str, **settings: object) -> Site:
            return stack.enter_context(Site(tmp_path / "site" / "here", base_url, **settings))

        yield new_site
