"""Redis and the upstream over TLS by a certificate authority of one's own."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr
from redis.exceptions import ConnectionError as RedisConnectionError

from subtokens.config.settings import StoreSettings
from subtokens.tasks.dintero.client import DinteroClient
from subtokens.tasks.dintero.errors import UnreachableError
from subtokens.tasks.dintero.transport import open_transport
from subtokens.tasks.exchange import fan_out
from subtokens.tasks.fleet import open_store
from subtokens.tasks.tokens.async_reader import AsyncTokenReader
from subtokens.tasks.tokens.reader import TokenReader
from subtokens.tasks.tokens.selection import save_selection
from subtokens.workers.application import make_app

from .conftest import (
    CANARY_SECRET,
    DEADLINE_SECONDS,
    KEYS,
    PARTNER,
    Site,
    Upstream,
    account,
    account_ids,
    await_ready,
    forget_results,
    sending_by,
)
from .tls import Authority, Terminator

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "strangers")


class Secured:
    """A site whose Redis is reached over TLS alone, and its URLs by a CA."""

    def __init__(self, site: Site, port: int) -> None:
        self.site, self._port = site, port

    def url(self, database: int, ca: Authority | None) -> str:
        parameter = f"?ssl_ca_certs={ca.file}" if ca else ""
        return f"rediss://127.0.0.1:{self._port}/{database}{parameter}"

    def store_settings(self, ca: Authority | None) -> StoreSettings:
        return StoreSettings(
            partner_id=PARTNER,
            encryption_keys=KEYS,
            store_url=self.url(1, ca),
            _env_file=None,
        )


@pytest.fixture
def secured(
    new_site: Callable[..., Site], upstream: Upstream, ours: Authority
) -> Iterator[Secured]:
    site = new_site(upstream.base_url)
    behind = urlsplit(site.broker_url).port
    assert behind
    with Terminator(ours, behind) as terminator:
        yield Secured(site, terminator.port)


def test_store_broker_and_results_are_reached_by_the_ca_of_their_urls(
    secured: Secured, ours: Authority
) -> None:
    site = secured.site
    accounts = account_ids(1, 20)
    site.enrol(accounts)
    for name, database in (("STORE", 1), ("BROKER", 0), ("RESULT", 2)):
        site.environment[f"SUBTOKENS_{name}_URL"] = secured.url(database, ours)
    await_ready(site.worker("worker"))
    urls = {"broker_url": 0, "result_url": 2, "store_url": 1}
    settings = type(site.own_settings)(
        **{name: secured.url(database, ours) for name, database in urls.items()},
        partner_id=PARTNER,
        client_id="sandbox-client-id",
        client_secret=CANARY_SECRET,
        encryption_keys=KEYS,
        _env_file=None,
    )
    app = make_app(settings)
    with sending_by(app):
        found = fan_out.si().apply_async().get(timeout=DEADLINE_SECONDS)
    forget_results(app)
    assert found["done"] == 20
    with TokenReader(settings) as reader:
        assert len(reader.get_many(accounts)) == 20

    async def read() -> int:
        async with AsyncTokenReader(settings) as reader:
            return len(await reader.get_many(accounts))

    assert asyncio.run(read()) == 20
    assert save_selection("some", accounts[:3], settings=settings) == 3
    done = site.cli("status")
    assert done.code == 0, done.err


@pytest.mark.parametrize("which", ["none", "a stranger's"])
def test_without_the_right_ca_nothing_is_sent_and_the_error_says_why(
    secured: Secured, strangers: Authority, which: str
) -> None:
    ca = None if which == "none" else strangers
    with (
        TokenReader(secured.store_settings(ca)) as reader,
        pytest.raises(RedisConnectionError, match="certificate verify failed"),
    ):
        reader.get(account(1))

    async def read() -> None:
        async with AsyncTokenReader(secured.store_settings(ca)) as reader:
            await reader.get(account(1))

    async def ask() -> None:
        async with open_store(secured.url(1, ca)) as redis:
            await redis.ping()

    for work in (read, ask):
        with pytest.raises(RedisConnectionError, match="certificate"):
            asyncio.run(work())
    secured.site.environment["SUBTOKENS_STORE_URL"] = secured.url(1, ca)
    done = secured.site.cli("status")
    assert done.code == 3
    assert "certificate verify failed" in done.err


def test_a_plain_client_gets_no_answer_from_a_tls_port(secured: Secured) -> None:
    url = secured.url(1, None).replace("rediss", "redis")
    settings = secured.store_settings(None).model_copy(update={"store_url": SecretStr(url)})
    with TokenReader(settings) as reader, pytest.raises(RedisConnectionError):
        reader.get(account(1))


@pytest.mark.parametrize("which", ["ours", "none", "a stranger's"])
def test_the_upstream_is_verified_by_the_ca_file_that_is_set(
    upstream: Upstream, ours: Authority, strangers: Authority, which: str
) -> None:
    file = {"ours": str(ours.file), "none": "", "a stranger's": str(strangers.file)}[which]
    behind = urlsplit(upstream.base_url).port
    assert behind
    with Terminator(ours, behind) as terminator:

        async def ask() -> None:
            transport = open_transport(2, file)
            client = DinteroClient(f"https://127.0.0.1:{terminator.port}/v1", transport, 5)
            try:
                await client.partner_token(PARTNER, "sandbox-client-id", CANARY_SECRET)
            finally:
                await transport.aclose()

        if which == "ours":
            asyncio.run(ask())
        else:
            with pytest.raises(UnreachableError, match="no answer: certificate verify failed"):
                asyncio.run(ask())


def test_a_ca_file_that_cannot_be_read_is_told_before_anything_starts(
    new_site: Callable[..., Site], upstream: Upstream, tmp_path: Path
) -> None:
    site = new_site(upstream.base_url)
    site.environment["SUBTOKENS_UPSTREAM_CA_FILE"] = str(tmp_path / "nowhere.pem")
    done = site.cli("status")
    assert done.code == 2
    assert "SUBTOKENS_UPSTREAM_CA_FILE is a file that cannot be read" in done.err
