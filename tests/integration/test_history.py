"""What sweeps note for the status page: a row each ten minutes, and the beats that sent them."""

from subtokens.tasks.tokens.status import fleet_status
from subtokens.workers.monitor.kept import last_day


async def test_a_row_tells_the_totals_and_the_worst_moment_before(fleet_of, token, clock):
    fleet = fleet_of(112)
    clock.now = 600_000 * 3000.0  # where ten minutes begin
    await fleet.tickets.look(is_sweep=True)
    await fleet.store.enrol([(f"T112{n:05}", "") for n in range(1, 4)], "imported")
    for minutes, expected_rows in ((5, 1), (11, 2), (12, 2), (29, 3)):
        claimed = await fleet.store.claim(3, 60, fleet.rate, "exchange" if minutes < 6 else "renew")
        records = [token(one.account_id, claimed.generation, 200) for one in claimed.accounts]
        await fleet.store.complete(records)
        clock.now = 600_000 * 3000.0 + minutes * 60
        await fleet.tickets.look(is_sweep=True)
        assert len(await last_day(fleet.store)) == expected_rows

    first, second, third = await last_day(fleet.store)
    assert (first.enrolled, first.tokens, first.most_uncovered) == (0, 0, 0)
    assert (second.enrolled, second.at) == (3, first.at + 11 * 60)
    assert second.most_uncovered == 3  # at five minutes, as their tokens had lived for 200 s
    assert third.tokens > second.tokens >= 3
    assert third.uncovered_seconds > 0


async def test_the_history_is_of_a_day_whatever_becomes_of_the_clock(fleet_of, clock, redis):
    fleet = fleet_of(112)
    for _ in range(160):
        await fleet.tickets.look(is_sweep=True)
        clock.push(600)
    assert await redis.xlen(fleet.store.keys.history) == 145
    assert len(await last_day(fleet.store)) <= 145
    clock.push(-30 * 86_400)
    await fleet.tickets.look(is_sweep=True)
    await fleet.tickets.look(is_sweep=True)
    assert await redis.xlen(fleet.store.keys.history) == 145
    assert [row.at for row in await last_day(fleet.store)] == [clock()]  # no row of the future


async def test_sweeps_of_workers_whose_clocks_differ_a_little_make_one_row_each_ten_minutes(
    fleet_of, clock
):
    fleet, begins = fleet_of(112), 600_000 * 3000.0
    for second in range(-3, 4):
        for ahead in (0, 2.5):
            clock.now = begins + second + ahead
            await fleet.tickets.look(is_sweep=True)

    assert [row.at for row in await last_day(fleet.store)] == [begins - 3, begins + 0.5]


async def test_garbage_in_the_history_is_told_as_zero(fleet_of, clock, redis):
    fleet = fleet_of(112)
    await redis.hset(fleet.store.keys.fleet, mapping={"most_uncovered": "inf", "exchanged": "x"})
    await fleet.tickets.look(is_sweep=True)
    row = {"at": int(clock() * 1000), "exchanged": "-7", "failed": "1e999", "enrolled": "many"}
    await redis.xadd(fleet.store.keys.history, row)
    await redis.xadd(fleet.store.keys.history, {"other": "b"})
    kept = await last_day(fleet.store)
    assert [row[1:] for row in kept] == [(0, 0, 0, 0, 0)] * 2


async def test_a_beat_is_alive_while_its_sweeps_come(fleet_of, clock, redis):
    fleet = fleet_of(112)

    async def alive():
        return (await fleet_status(fleet.store, 50)).beats_alive

    await fleet.tickets.look(is_sweep=True)
    assert await alive() == 0  # who sent it is not known
    await fleet.tickets.look(is_sweep=True, beat="gen7@one")
    clock.push(30)
    await fleet.tickets.look(is_sweep=True, beat="gen8@other" + "x" * 1000)
    assert await alive() == 2
    clock.push(40)
    await fleet.tickets.look(is_sweep=True)
    assert await alive() == 1
    assert [len(name) for name in await redis.hkeys(fleet.store.keys.beats)] == [80]
