"""Odd answers, by the sandbox's own count: handled, and never asked for in a loop."""

import pytest

from subtokens.tasks.tokens.errors import TokenError
from subtokens.tasks.tokens.reader import TokenReader
from subtokens.tasks.tokens.sealing import Sealer
from subtokens.tasks.tokens.status import fleet_status

A = "T11200001"
MASTER_KEY = b"CANARY-master-key-of-32-bytes-!!"
LIFETIME = 4 * 3600


@pytest.fixture
async def one_token(fleet_at, work_off):
    """A fleet of one account with its first token, and the sandbox."""

    async def one_token(**options):
        fleet, sandbox = await fleet_at(accounts=1, **{"lifetime_seconds": LIFETIME} | options)
        await fleet.store.enrol([(A, "")], "imported")
        assert await work_off(fleet) == 1
        return fleet, sandbox

    return one_token


@pytest.fixture
def live(work_off, push_to_next, clock):
    """Lives for so long, at each due instant; returns how many exchanges that took."""

    async def live(fleet, sandbox, seconds):
        before, ends_at = sandbox.calls.stats(clock())["calls"]["exchange"], clock.now + seconds
        while clock.now < ends_at:
            await push_to_next(fleet)
            await work_off(fleet)
        return sandbox.calls.stats(clock())["calls"]["exchange"] - before

    return live


@pytest.mark.parametrize("reissue", ["remaining", "full"])
async def test_the_same_token_again_is_kept_with_its_own_end_and_not_asked_for_in_a_loop(
    one_token, live, clock, settings, reissue
):
    fleet, sandbox = await one_token(reissue=reissue)
    first = await fleet.store.load(A)

    calls = await live(fleet, sandbox, LIFETIME - 60)

    assert 1 <= calls <= 3
    kept = await fleet.store.load(A)
    assert kept == first  # whatever life the answers claimed
    reader = TokenReader(settings, clock=clock)
    assert reader.get(A).access_token == first.access_token
    # A day of it: a few calls for each life, and never without a token for longer than it takes.
    calls = await live(fleet, sandbox, 24 * 3600)
    assert calls <= 12 * 24 * 3600 / LIFETIME
    status = await fleet_status(fleet.store, 100)
    assert status.failing == 0
    assert status.uncovered_seconds <= status.lapses * 2
    reader.close()


async def test_the_same_token_again_is_known_after_a_new_key_was_promoted(one_token, live):
    fleet, sandbox = await one_token(reissue="full")
    first = await fleet.store.load(A)
    sealer = fleet.store.sealer
    fleet.store.sealer = Sealer(fleet.partner.partner_id, {"k2": bytes(32), "k1": MASTER_KEY})
    assert fleet.store.sealer.sealing_id != sealer.sealing_id

    await live(fleet, sandbox, LIFETIME - 60)

    assert await fleet.store.load(A) == first


@pytest.mark.parametrize("reissue", ["remaining", "full"])
@pytest.mark.parametrize("garbage", [b"CANARY-garbage", None])
async def test_the_same_token_again_is_sealed_anew_where_its_record_cannot_be_opened(
    one_token, work_off, settings, clock, redis, reissue, garbage
):
    fleet, _ = await one_token(reissue=reissue)
    first, key = await fleet.store.load(A), fleet.store.keys.token(A)
    await (redis.set(key, garbage, keepttl=True) if garbage else redis.delete(key))
    clock.push(60)

    with TokenReader(settings, clock=clock) as reader:
        with pytest.raises(TokenError, match=f"subtokens exchange {A}"):
            reader.get(A)
        await fleet.tickets.look()
        assert await work_off(fleet) == 1

        healed = reader.get(A)
    assert healed.access_token == first.access_token
    assert healed.generation > first.generation
    assert healed.expires_ms == first.expires_ms
    assert healed.renew_ms < healed.expires_ms
    await fleet.tickets.look()
    assert await work_off(fleet) == 0  # once is enough


async def test_a_token_of_less_life_replaces_the_one_before_and_is_renewed_by_its_own_expiry(
    one_token, live, clock
):
    fleet, sandbox = await one_token()
    first = await fleet.store.load(A)
    sandbox.options = sandbox.options.model_copy(update={"lifetime_seconds": 300})

    calls = await live(fleet, sandbox, 24 * 3600)

    newer = await fleet.store.load(A)
    assert newer.generation > first.generation
    assert 0 < newer.expires_ms - newer.issued_ms <= 300_000
    assert calls <= 24 * 3600 / 100
    assert (await fleet_status(fleet.store, 100)).uncovered_seconds == 0


async def test_tokens_that_all_end_at_one_instant_are_not_asked_for_in_a_loop(
    one_token, live, clock
):
    """As where each token's life is what is left of another's."""
    fleet, sandbox = await one_token()
    end = clock.now + LIFETIME
    calls = 0
    while (left := int(end - clock.now)) > 60:
        sandbox.options = sandbox.options.model_copy(update={"lifetime_seconds": left})
        calls += await live(fleet, sandbox, 1)

    assert calls <= 6


async def test_a_token_that_had_expired_when_it_arrived_is_a_failure_and_the_old_one_stays(
    one_token, live, clock, work_off
):
    fleet, sandbox = await one_token(lifetime_seconds=10 * 86_400)
    first = await fleet.store.load(A)
    clock.push(8 * 86_400)
    answer = fleet.client.exchange

    async def late(*arguments):
        arrived = await answer(*arguments)
        clock.push(arrived.expires_in)
        return arrived

    fleet.client.exchange = late
    sandbox.options = sandbox.options.model_copy(update={"lifetime_seconds": 1})
    assert await work_off(fleet) == 0

    assert await fleet.store.load(A) == first
    status = await fleet_status(fleet.store, 100)
    assert (status.failing, status.valid) == (1, 1)
    assert await live(fleet, sandbox, 3600) < 3600 / 10  # its back-off is kept
