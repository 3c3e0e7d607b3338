"""The status page in a browser, of a fleet that has lived through a day."""

import asyncio
import os
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from subtokens.tasks.dintero.errors import UnauthorizedError
from subtokens.workers.monitor import Fleets, serving
from subtokens.workers.private_redis import LOOPBACK

from .browser import chromium

ACCOUNTS, UNKNOWN = int(os.environ.get("STATUS_PAGE_ACCOUNTS", "40")), 3
TEN_MINUTES = 600
BEYOND_THE_EDGE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture
async def lived(fleet_at, work_off, clock):
    """A fleet a day old by its clock, which now is the real one: an outage, and a run under way."""
    clock.now = time.time() - 86_400
    fleet, sandbox = await fleet_at({"quarantine_after": 2}, accounts=ACCOUNTS)
    await fleet.store.enrol(
        [(f"T112{n:05}", "") for n in range(1, ACCOUNTS + UNKNOWN + 1)], "imported"
    )
    for ten_minutes in range(144):
        is_down = 60 <= ten_minutes < 80
        sandbox.options = sandbox.options.model_copy(
            update={"error_share": 1.0 if is_down else 0.03}
        )
        await fleet.tickets.look(is_sweep=True, beat="gen7@here")
        await work_off(fleet)
        clock.push(TEN_MINUTES)
    clock.now = time.time()
    await fleet.runs.open("4f1cbe20-run", 600, "{}")
    await fleet.runs.request("4f1cbe20-run", [f"T112{n:05}" for n in range(1, ACCOUNTS // 2)])
    await fleet.runs.seal("4f1cbe20-run")
    claim = await fleet.store.claim(ACCOUNTS // 3, 60, fleet.rate, "exchange")
    assert claim.accounts
    await fleet.tickets.look(is_sweep=True, beat="gen7@here")
    return fleet


async def until_it_tells(page, words):
    async with asyncio.timeout(20):
        while words not in (told := await page.evaluate("document.body?.innerText ?? ''")):
            await asyncio.sleep(0.05)
    return told


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_tells_of_a_day_on_phone_and_desk(lived, scheme, tmp_path):
    shots = Path(os.environ.get("STATUS_PAGE_SHOTS", tmp_path))
    async with (
        serving(Fleets([lived]), LOOPBACK, 0) as url,
        chromium(tmp_path / "browser") as page,
    ):
        for width in (390, 1280):
            await page.show(f"{url}/", width, 800, scheme)
            told = await until_it_tells(page, "T11200000")
            for words in (
                f"of {ACCOUNTS + UNKNOWN}",
                "accounts covered now",
                "Coverage over the last day",
                "uncovered at once",
                "Tokens by how long they live",
                "In quarantine",
                "refused_403",
                "4f1cbe20",
                f"0 of {ACCOUNTS // 2 - 1}",
                "and 1 beat",
                "covered over the last 24 h",
            ):
                assert words in told
            assert await page.evaluate(BEYOND_THE_EDGE) == 0
            ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (ground == "rgb(243, 245, 248)") == (scheme == "light")
            slots = await page.evaluate("document.querySelector('.columns').children.length")
            assert slots == 144
            assert await page.evaluate("document.querySelectorAll('.columns b.bad').length")
            (shots / f"{scheme}-{width}.png").write_bytes(await page.shot())
        assert page.complaints == []


async def test_many_partners_are_a_list_to_be_opened(fleet_of, tmp_path):
    shots = Path(os.environ.get("STATUS_PAGE_SHOTS", tmp_path))
    async with (
        Redis(port=1, retry=Retry(NoBackoff(), 0)) as nobody,
        chromium(tmp_path / "browser") as page,
    ):
        fleets = [fleet_of(number) for number in range(112, 122)]
        for fleet in fleets:
            await fleet.tickets.look(is_sweep=True)
        await fleets[3].circuit.open(UnauthorizedError("partner_token", "answered 401", status=401))
        async with serving(Fleets([*fleets, fleet_of(122, nobody)]), LOOPBACK, 0) as url:
            await page.show(f"{url}/", 390, 800, "light")
            told = await until_it_tells(page, "T12200000")
            assert "suspended" in told
            assert "not read" in told
            assert "by the fault of our credential" not in told
            for place, words in (
                (3, "by the fault of our credential: partner_token: answered 401"),
                (10, "Redis cannot be reached"),
            ):
                await page.evaluate(f"document.querySelectorAll('summary')[{place}].click()")
                await until_it_tells(page, words)
            assert await page.evaluate("document.title") == "(2) subtokens"
            assert await page.evaluate(BEYOND_THE_EDGE) == 0
            (shots / "many.png").write_bytes(await page.shot())
            assert page.complaints == []
