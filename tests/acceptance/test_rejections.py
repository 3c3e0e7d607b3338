"""Refused tokens, on real workers: one exchange for a storm of 401s, an alarm for a wrong scope."""

import asyncio
from collections.abc import Callable, Iterator

import httpx
import pytest

import subtokens

from .conftest import (
    DEADLINE_SECONDS,
    PARTNER,
    Site,
    Upstream,
    account,
    account_ids,
    await_ready,
    eventually,
    sending_by,
)

ACCOUNTS = account_ids(1, 200)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(accounts=200) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def site(
    redis_server: object, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A worker and beat, and a token for every account."""
    folder = tmp_path_factory.mktemp("rejections") / "here"
    with Site(folder, upstream.base_url, discovery_interval_seconds=0) as site:
        await_ready(site.worker("worker"))
        site.celery("beat", "beat")
        site.enrol(ACCOUNTS)
        with sending_by(site.app):
            subtokens.ensure.si(valid_for="1h").apply_async().get(timeout=DEADLINE_SECONDS)
        yield site


@pytest.mark.faults  # it takes seconds
def test_five_hundred_401s_at_once_for_one_account_cost_one_exchange(
    site: Site, upstream: Upstream
) -> None:
    before = upstream.last()
    site.spoil_token(account(1))

    async def storm() -> list[int]:
        async with subtokens.AsyncTokenReader(site.own_settings) as reader:
            auth = subtokens.SubAccountAuth(reader, account(1))
            limits = httpx.Limits(max_connections=50)
            async with httpx.AsyncClient(auth=auth, limits=limits, timeout=30) as client:
                url = f"{upstream.base_url}/accounts/{account(1)}/management/settings"
                answers = await asyncio.gather(*(client.get(url) for _ in range(500)))
            return [answer.status_code for answer in answers]

    statuses = asyncio.run(storm())

    assert statuses == [200] * 500
    assert len(upstream.calls_of([account(1)], before)) == 1
    refused = [call for call in upstream.calls(before) if call.status == 401]
    assert refused, "nobody was refused: it proves nothing"


def test_a_record_that_was_tampered_with_is_told_and_renewed_by_the_fleet_without_being_asked(
    site: Site, upstream: Upstream
) -> None:
    before, tampered, gone, whole = upstream.last(), account(11), account(12), account(13)
    with site.reader() as reader:
        former = {one: reader.get(one) for one in (tampered, gone)}
    site.store.copy(site.keys.token(whole), site.keys.token(tampered), replace=True)
    site.store.delete(site.keys.token(gone))

    with site.reader() as reader:
        assert set(reader.get_many([tampered, gone, whole])) == {whole}
        with pytest.raises(subtokens.TokenError, match="gone from the store before its end"):
            reader.get(gone)
        for one, record in former.items():
            assert reader.wait(one, timeout=DEADLINE_SECONDS).generation > record.generation
    assert len(upstream.calls_of([tampered, gone], before)) == 2
    assert len(upstream.calls_of([whole], before)) == 0


def test_a_job_whose_every_account_gets_a_401_has_a_twentieth_exchanged_and_raises_an_alarm(
    site: Site, upstream: Upstream
) -> None:
    before = upstream.last()
    reader = subtokens.TokenReader(site.own_settings)
    for record in reader.get_many(ACCOUNTS).values():
        reader.reject(record)  # whatever the token, this job's scope is wrong
    log = site.log_of("worker")
    eventually(lambda: "rejections.held_back" in log.read_text())
    eventually(lambda: not site.store.xlen(site.keys.rejections))
    eventually(lambda: not site.status()["due"])
    exchanged = {call.account for call in upstream.calls_of(ACCOUNTS, before)}
    assert 1 <= len(exchanged) <= 200 * 0.05
    assert reader.get(account(150)).access_token  # it is still served
    reader.close()


def test_reject_is_a_task_too_and_fenced_by_the_generation(
    new_site: Callable[..., Site], upstream: Upstream
) -> None:
    site = new_site(upstream.base_url, discovery_interval_seconds=0)
    await_ready(site.worker("worker"))
    site.enrol(ACCOUNTS[:3])
    with sending_by(site.app), site.reader() as reader:
        subtokens.ensure.si(valid_for="1h").apply_async().get(timeout=DEADLINE_SECONDS)
        old = reader.get(account(1)).generation

        def reject(account_id: str, generation: int) -> str:
            sent = subtokens.reject.si(account_id, generation).apply_async()
            return str(sent.get(timeout=DEADLINE_SECONDS))

        assert reject(account(1), old) == "accepted"
        newer = reader.wait(account(1), newer_than=old)
        assert newer.generation > old
        assert reject(account(1), old) == "late"
        assert reject(account(1), newer.generation) == "known"
        with pytest.raises(subtokens.InputError, match="the partner itself"):
            reject(PARTNER, old)
