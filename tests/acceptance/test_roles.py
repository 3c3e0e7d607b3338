"""A deployment in which each part logs in as its own role: all works, and Redis denies nothing."""

from collections.abc import Callable, Iterator
from hashlib import sha256
from urllib.parse import urlsplit

import pytest
from celery import chord
from pydantic import SecretStr
from redis.exceptions import NoPermissionError

from subtokens.tasks.exchange import exchange, fan_out
from subtokens.tasks.tokens.errors import NoTokenError
from subtokens.tasks.tokens.reader import TokenReader
from subtokens.workers.application import make_app

from .conftest import (
    DEADLINE_SECONDS,
    Site,
    Upstream,
    account,
    account_ids,
    await_ready,
    eventually,
    forget_results,
    sending_by,
)

pytestmark = pytest.mark.faults

PASSWORD = "CANARY-redis-password"


@pytest.fixture
def short_lived() -> Iterator[Upstream]:
    with Upstream(accounts=40, lifetime_seconds=6) as upstream:
        yield upstream


class Roles:
    """The users that `subtokens acl` prints, set up on the site's Redis."""

    def __init__(self, site: Site, *options: str) -> None:
        self.site, self.names = site, dict[str, str]()
        printed = site.cli("acl", *options)
        assert printed.code == 0, printed.err
        for line in printed.out.splitlines():
            _, name, *told = line.split()
            hashed = sha256(PASSWORD.encode()).hexdigest()
            rules = [rule.replace("SHA256-OF-ITS-PASSWORD", hashed) for rule in told]
            site.broker.execute_command("ACL", "SETUSER", name, *rules)
            self.names[name.split("-")[1]] = name

    def urls(self, broker: str, store: str) -> dict[str, str]:
        """The settings of a process that logs in as those two."""
        host = urlsplit(self.site.broker_url).netloc
        return {
            "SUBTOKENS_BROKER_URL": f"redis://{self.names[broker]}:{PASSWORD}@{host}/0",
            "SUBTOKENS_STORE_URL": f"redis://{self.names[store]}:{PASSWORD}@{host}/1",
        }

    def denied(self) -> list[str]:
        """What Redis refused; what a client tells of itself is asked for by the library alone."""
        log = self.site.broker.acl_log()
        told = [f"{entry['username']}: {entry['object']} {entry['context']}" for entry in log]
        return [line for line in told if ": client" not in line]


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # by Celery, for a chord
@pytest.mark.parametrize("form", ["on 7", "on 6.2"], ids=["on_7", "on_6_2"])
def test_worker_beat_reader_and_operator_do_their_work_each_as_its_own_role(
    new_site: Callable[..., Site], short_lived: Upstream, form: str
) -> None:
    site = new_site(short_lived.base_url, call_timeout_seconds=1)
    version = site.broker.info("server")["redis_version"]
    if form == "on 7" and int(version.split(".")[0]) < 7:
        pytest.skip(f"the Redis here is {version}")
    roles = Roles(site, *(["--for-6-2"] if form == "on 6.2" else []))
    environment = dict(site.environment)

    site.environment = environment | roles.urls("broker", "worker")
    await_ready(site.worker("worker", "--time-limit=60"))
    site.environment = environment | roles.urls("beat", "reader")
    site.celery("beat", "beat")
    renewed = account_ids(1, 40)
    seen = eventually(lambda: short_lived.last() if short_lived.has_exchanged(renewed) else 0)
    eventually(lambda: short_lived.has_exchanged(renewed, after=seen))

    site.environment = environment | roles.urls("beat", "operator")
    for command in (
        ("status", "--json"),
        ("status",),
        ("explain", account(1)),
        ("accounts", "list"),
        ("keys", "status"),
        ("exchange", account(1)),
        ("ensure", "--valid-for", "1s"),
    ):
        done = site.cli(*command)
        assert done.code == 0, (command, done)
    assert site.cli("token", account(1)).code != 0  # it may see no token

    settings = site.own_settings.model_copy(
        update={"store_url": SecretStr(roles.urls("beat", "reader")["SUBTOKENS_STORE_URL"])}
    )
    site.broker.execute_command("ACL", "LOG", "RESET")
    with TokenReader(settings, cache_seconds=0) as reader:
        reader.reject(reader.wait(account(1), timeout=DEADLINE_SECONDS))
        assert reader.get_many(renewed)
        with pytest.raises(NoTokenError, match="not enrolled"):
            reader.get(account(99))
        with pytest.raises(NoPermissionError):
            reader._redis.set(reader._keys.token(account(1)), "x")
    assert [line.split(": ")[1] for line in roles.denied()] == ["set toplevel"]
    site.broker.execute_command("ACL", "LOG", "RESET")

    update = {"broker_url": SecretStr(roles.urls("broker", "worker")["SUBTOKENS_BROKER_URL"])}
    app = make_app(site.own_settings.model_copy(update=update))
    with sending_by(app):
        both = chord([exchange.si(account(1)), exchange.si(account(2))], fan_out.si(policy=0.5))
        assert both.apply_async().get(timeout=DEADLINE_SECONDS)["done"] == 40
        assert app.control.ping(timeout=2)
    forget_results(app)
    assert roles.denied() == []
