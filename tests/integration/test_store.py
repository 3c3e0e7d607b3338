"""The store's promises, on a real Redis with a pushable clock."""

import pytest

from subtokens.tasks.tokens.blame import Past
from subtokens.tasks.tokens.errors import SealError
from subtokens.tasks.tokens.limiter import Rate
from subtokens.tasks.tokens.store import Failure

A, B, C = "T11200001", "T11200002", "T11200003"


def names(claim):
    return [claimed.account_id for claimed in claim.accounts]


def failure(account, generation, clock, delay_seconds=10, is_final=False):
    return Failure(account, generation, int((clock() + delay_seconds) * 1000), "refused", is_final)


async def test_a_new_account_is_due_at_once_and_claimed_once(enrol, claim):
    assert await enrol(A) == 1

    assert names(await claim()) == [A]
    assert names(await claim()) == []


async def test_enrolling_twice_changes_nothing(enrol, claim):
    await enrol(A)
    await claim()

    assert await enrol(A) == 0
    assert names(await claim()) == []


async def test_a_claim_that_is_not_completed_is_due_again_after_its_lease(enrol, claim, clock):
    await enrol(A)
    await claim(lease_seconds=60)

    clock.push(59.9)
    assert names(await claim()) == []
    clock.push(0.2)
    assert names(await claim()) == [A]


async def test_a_completed_token_can_be_loaded_and_is_due_at_its_renewal(
    enrol, claim, store, token, clock
):
    await enrol(A)
    claimed = await claim()
    record = token(A, claimed.generation, lifetime_seconds=100)

    settled = await store.complete([record])

    assert settled.accounts == 1
    assert await store.load(A) == record
    clock.push(49)
    assert names(await claim()) == []
    clock.push(2)
    assert names(await claim()) == [A]


async def test_tokens_lie_sealed_in_redis(enrol, claim, store, token, redis, keys):
    await enrol(A)
    await store.complete([token(A, (await claim()).generation)])

    stored = await redis.get(keys.token(A))

    assert b"CANARY" not in stored


async def test_a_token_moved_to_another_account_does_not_open(
    enrol, claim, store, token, redis, keys
):
    await enrol(A)
    await store.complete([token(A, (await claim()).generation)])

    await redis.rename(keys.token(A), keys.token(B))

    with pytest.raises(SealError, match="altered or moved"):
        await store.load(B)


async def test_redis_drops_a_token_with_its_expiry(enrol, claim, store, token, redis, keys):
    await enrol(A)
    await store.complete([token(A, (await claim()).generation, lifetime_seconds=100)])

    assert 99_000 < await redis.pttl(keys.token(A)) <= 100_000


async def test_a_late_success_cannot_overwrite_a_newer_token(enrol, claim, store, token, clock):
    await enrol(A)
    slow = await claim(lease_seconds=10)
    clock.push(11)
    quick = await claim()
    newer = token(A, quick.generation)
    await store.complete([newer])

    settled = await store.complete([token(A, slow.generation)])

    assert settled.accounts == 0
    assert await store.load(A) == newer


async def test_a_late_success_is_dropped_even_before_the_newer_claim_completes(
    enrol, claim, store, token, clock
):
    await enrol(A)
    slow = await claim(lease_seconds=10)
    clock.push(11)
    quick = await claim()

    assert (await store.complete([token(A, slow.generation)])).accounts == 0
    assert await store.load(A) is None
    assert (await store.complete([token(A, quick.generation)])).accounts == 1


async def test_a_late_failure_cannot_disturb_a_newer_token(enrol, claim, store, token, clock):
    await enrol(A)
    slow = await claim(lease_seconds=10)
    clock.push(11)
    await store.complete([token(A, (await claim()).generation)])

    settled = await store.fail([failure(A, slow.generation, clock)])

    assert settled.accounts == 0
    clock.push(60)
    assert names(await claim()) == []  # not moved up by the failure's earlier due time


async def test_a_late_success_cannot_resurrect_a_forgotten_account(enrol, claim, store, token):
    await enrol(A)
    claimed = await claim()
    await store.forget([A])

    assert (await store.complete([token(A, claimed.generation)])).accounts == 0
    assert await store.load(A) is None
    assert names(await claim()) == []


async def test_forgetting_drops_the_token_and_holds_against_discovery(
    enrol, claim, store, token, redis, keys
):
    await enrol(A)
    await store.complete([token(A, (await claim()).generation)])

    await store.forget([A])

    assert await store.load(A) is None
    assert not [key async for key in redis.scan_iter(f"*{A}*")]
    assert await store.enrol([(A, "")], "discovered") == 0
    assert await store.enrol([(A, "")], "imported") == 1
    assert await store.enrol([(A, "")], "discovered") == 0


async def test_a_claim_from_before_forgetting_is_void_after_re_enrolment(
    enrol, claim, store, token
):
    await enrol(A)
    before = await claim()
    await store.forget([A])
    await enrol(A)
    after = await claim()

    assert (await store.complete([token(A, before.generation)])).accounts == 0
    assert (await store.complete([token(A, after.generation)])).accounts == 1


async def test_a_failure_is_tried_again_when_it_says_and_counts_up(enrol, claim, store, clock):
    await enrol(A)
    first = await claim()
    await store.fail([failure(A, first.generation, clock, delay_seconds=10)])

    clock.push(9)
    assert names(await claim()) == []
    clock.push(2)
    (claimed,) = (await claim()).accounts
    assert (claimed.account_id, claimed.past) == (A, Past(1, 1, "refused"))


async def test_a_failure_keeps_the_old_token_and_a_success_clears_the_count(
    enrol, claim, store, token, clock
):
    await enrol(A)
    record = token(A, (await claim()).generation, lifetime_seconds=100)
    await store.complete([record])
    clock.push(51)
    await store.fail([failure(A, (await claim()).generation, clock)])
    assert await store.load(A) == record

    clock.push(11)
    await store.complete([token(A, (await claim()).generation, lifetime_seconds=100)])
    clock.push(51)
    (claimed,) = (await claim()).accounts
    assert (claimed.account_id, claimed.past) == (A, Past())


async def test_what_is_handed_back_takes_its_former_place(enrol, claim, store, redis, keys):
    await enrol(A)
    before = await redis.zscore(keys.due, A)
    claimed = await claim()

    await store.hand_back([(A, claimed.generation)])

    assert await redis.zscore(keys.due, A) == before
    assert names(await claim()) == [A]


async def test_claims_go_to_the_earliest_expiry_first(enrol, claim, store, token, clock):
    await enrol(A, B, C)
    generation = (await claim()).generation
    await store.complete(
        [
            token(A, generation, lifetime_seconds=300),
            token(B, generation, lifetime_seconds=100),
            token(C, generation, lifetime_seconds=200),
        ]
    )
    clock.push(150)

    assert names(await claim(limit=2)) == [B, C]
    assert names(await claim(limit=2)) == [A]


async def test_generations_rise_and_do_not_rewind_when_redis_forgets(enrol, claim, redis, clock):
    await enrol(A)
    first = (await claim()).generation
    await redis.flushdb()
    await enrol(A)

    assert (await claim()).generation > first


async def test_nothing_is_claimed_without_permits_and_the_wait_is_told(enrol, store):
    await enrol(*(f"T1120{n:04d}" for n in range(1, 50)))
    slow = Rate(10)

    claims = [await store.claim(50, 60, slow, "exchange") for _ in range(10)]

    granted = sum(len(claim.accounts) for claim in claims)
    assert 1 <= granted <= 4  # a quarter of a second's worth, its first instant, and the burst
    assert claims[-1].schedule.wait_us > 0


async def test_permits_are_not_spent_where_nothing_is_due(store):
    slow = Rate(1)

    for _ in range(20):
        claim = await store.claim(50, 60, slow, "exchange")
        assert claim.schedule.wait_us == 0
