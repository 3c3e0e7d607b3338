"""Two partners in one deployment: neither waits for the other, and nothing is mixed up."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import chord
from celery.canvas import Signature

import subtokens

from .conftest import (
    DEADLINE_SECONDS,
    Site,
    Upstream,
    await_ready,
    eventually,
    partners_file,
    sending_by,
)

pytestmark = pytest.mark.faults

BIG, SMALL = "T11200000", "P11300000"


def ids(partner_id: str, count: int) -> list[str]:
    return [f"{partner_id[:4]}{number:05}" for number in range(1, count + 1)]


def ready(*valid_for: str) -> list[Signature]:
    """A step for each partner."""
    steps = zip((BIG, SMALL), valid_for, strict=True)
    return [subtokens.ensure.si(valid_for=each, partner_id=partner) for partner, each in steps]


@pytest.fixture
def upstreams() -> Iterator[tuple[Upstream, Upstream]]:
    with (
        Upstream(accounts=2000, latency_seconds=0.02) as big,
        Upstream(accounts=40, partner_id=SMALL, latency_seconds=0.02) as small,
    ):
        yield big, small


@pytest.fixture
def both(
    new_site: Callable[..., Site], upstreams: tuple[Upstream, Upstream], tmp_path: Path
) -> Site:
    """A worker and beat for both, by a partners file."""
    file = partners_file(tmp_path, dict(zip(upstreams, (300, 50), strict=True)))
    return new_site("", partners_file=file, discovery_interval_seconds=3600)


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # by Celery, for a chord
def test_both_are_discovered_and_the_small_one_does_not_wait_for_the_fan_out_of_the_big_one(
    both: Site, upstreams: tuple[Upstream, Upstream]
) -> None:
    big, small = upstreams
    await_ready(both.worker("worker"))
    both.celery("beat", "beat")
    eventually(lambda: small.has_exchanged(ids(SMALL, 40)), within=20)
    assert len(big.calls_of(ids(BIG, 2000))) < 2000, "the big one was done: it proves nothing"
    calls = [call for call in small.calls() if call.kind == "exchange"]
    assert {call.status for call in small.calls()} == {200}
    assert sorted(call.account for call in calls) == ids(SMALL, 40)
    with sending_by(both.app):
        step = subtokens.ensure.si(valid_for="1h", partner_id=SMALL)
        assert step.apply_async().get(timeout=DEADLINE_SECONDS)["valid"] == 40
        with pytest.raises(subtokens.InputError, match="name one of T11200000, P11300000"):
            subtokens.ensure.si(valid_for="1h").apply_async().get(timeout=DEADLINE_SECONDS)
        night = chord(ready("1h", "1h"), subtokens.ensure.si(valid_for=0, partner_id=SMALL)).delay()
        assert night.get(timeout=DEADLINE_SECONDS)["valid"] == 40
        of_each = night.parent.get()
        assert [(one["partner_id"], one["valid"]) for one in of_each] == [(BIG, 2000), (SMALL, 40)]
        before = small.last()
        night = chord(ready("6h", "1h"), subtokens.fan_out.si(partner_id=SMALL)).delay()
        with pytest.raises(subtokens.InputError, match="valid_for 21600 s cannot be had"):
            night.get(timeout=DEADLINE_SECONDS)
        assert night.parent[1].get(timeout=DEADLINE_SECONDS)["valid"] == 40
        assert not small.calls_of(ids(SMALL, 40), after=before)  # the body did not run
        with pytest.raises(subtokens.InputError, match="different environments"):
            subtokens.exchange.si(ids(BIG, 1)[0], partner_id=SMALL).apply_async().get(
                timeout=DEADLINE_SECONDS
            )
    both_told = both.cli("status", "--json")
    assert both_told.code == 0
    assert [part in both_told.out for part in (BIG, SMALL)] == [True, True]
    one = both.cli("--partner", SMALL, "token", ids(SMALL, 1)[0])
    assert (one.code, "exchange" in one.out) == (0, True)
    assert both.cli("accounts", "list").code == 2
