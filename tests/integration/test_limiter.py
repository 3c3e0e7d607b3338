"""The limiter on a real Redis: permits are instants, and everybody keeps to one line of them."""

import asyncio

import pytest

from subtokens.tasks.tokens.limiter import Limiter, Rate, Schedule
from subtokens.tasks.tokens.scripts import Scripts

SLOW = Rate(5)  # 0.2 s between two permits: no test takes so long


@pytest.fixture
def scripts(redis, keys):
    return Scripts(redis, keys)


async def reserve(scripts, rate, want, lane="exchange"):
    answer = await scripts.run("reserve", lane, 0, rate.per_second, rate.burst, want)
    return Schedule(*answer)


async def test_a_reservation_is_at_most_a_quarter_of_a_second(scripts):
    schedule = await reserve(scripts, Rate(100), 1000)

    assert schedule.granted == 25
    assert schedule.spacing_us == 10_000


async def test_reservations_follow_each_other_and_then_tell_how_long_to_wait(scripts):
    schedules = [await reserve(scripts, SLOW, 25) for _ in range(6)]

    granted = sum(schedule.granted for schedule in schedules)
    assert granted <= SLOW.per_second / 4 + SLOW.burst + 2
    assert schedules[-1].granted == 0
    assert 0 < schedules[-1].wait_seconds <= 1 / SLOW.per_second + 0.001


async def test_a_rate_below_four_a_second_still_grants_one_at_a_time(scripts):
    rate = Rate(0.5)

    first, second = [await reserve(scripts, rate, 5) for _ in range(2)]

    assert first.granted == 1
    assert second.granted <= 1


async def test_the_call_that_all_others_wait_for_passes_by_what_is_reserved(scripts):
    before = [await reserve(scripts, SLOW, 25) for _ in range(6)][-1]

    first = await reserve(scripts, SLOW, 1, "first")

    assert (before.granted, first.granted, first.first_us) == (0, 1, 0)
    after = await reserve(scripts, SLOW, 25)
    assert after.wait_seconds > before.wait_seconds  # it counts


async def test_a_pause_binds_the_call_that_all_others_wait_for(scripts):
    await Limiter(scripts, Rate(100)).pause(30, "a reason")

    assert (await reserve(scripts, Rate(100), 1, "first")).granted == 0


async def test_a_pause_binds_everybody_and_the_longer_one_stands(scripts, redis, keys):
    ours, theirs = Limiter(scripts, Rate(1000)), Limiter(Scripts(redis, keys), Rate(1000))
    await ours.pause(30, "a reason")
    await theirs.pause(1, "another")

    schedule = await reserve(scripts, Rate(1000), 10)

    assert schedule.granted == 0
    assert 29 < schedule.wait_seconds < 30


async def test_askers_of_two_processes_share_the_rate(scripts, redis, keys):
    loop = asyncio.get_running_loop()
    limiters = [Limiter(Scripts(redis, keys), Rate(100)) for _ in range(2)]
    started_at = loop.time()
    used_at = []

    async def ask(limiter):
        await limiter.permit()
        used_at.append(loop.time() - started_at)

    await asyncio.gather(*(ask(limiters[n % 2]) for n in range(60)))

    used_at.sort()
    for index, instant in enumerate(used_at):
        in_a_second = sum(1 for other in used_at[index:] if other < instant + 1)
        assert in_a_second <= 125
    assert used_at[-1] >= (60 - 25) / 100  # not before the rate allows


async def test_a_failing_redis_fails_every_asker_instead_of_leaving_it_waiting(keys):
    from redis.asyncio import Redis
    from redis.exceptions import ConnectionError as RedisConnectionError

    nowhere = Redis(host="127.0.0.1", port=1, retry=None)
    limiter = Limiter(Scripts(nowhere, keys), Rate(10))

    results = await asyncio.gather(*(limiter.permit() for _ in range(5)), return_exceptions=True)

    assert all(isinstance(result, RedisConnectionError) for result in results)
    await nowhere.aclose()
