"""Which accounts there are: discovery at Dintero, and forgetting."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from celery import Celery, Task, shared_task
from redis.exceptions import RedisError

from ..config.errors import InputError
from ..config.ids import checked_account_id
from ..config.logs import log
from ..config.queues import ACCOUNTS_QUEUE, SWEEP_QUEUE
from .dintero.client import ACCOUNTS, pages_of_accounts
from .dintero.errors import (
    Blame,
    DinteroError,
    ThrottledError,
    UnauthorizedError,
    UnreachableError,
)
from .dintero.wire import ListedAccount
from .fleet import Fleet
from .look import DISCOVERY_LEASE_SECONDS, release
from .runtime import runtime
from .tokens.cancellation import heed_cancellation
from .tokens.membership import Discovery, absent_twice, drop, is_too_many
from .tokens.selection import ids_in_a_message

_HELD_EVERY_SECONDS = DISCOVERY_LEASE_SECONDS / 3
_PAUSES_SECONDS = (0.5, 2.0)  # after a page that failed by the upstream's fault
# With all that keeps it waiting, such as a pause of an hour: the slot is needed by others, and the
# message would be delivered again meanwhile, to hold another. The next discovery comes soon.
PAGE_SECONDS = 60.0


@shared_task(
    name="subtokens.discover",
    bind=True,
    queue=ACCOUNTS_QUEUE,
    acks_late=True,
    ignore_result=False,
    throws=(DinteroError,),
)
def discover(
    self: "Task[Any, Any]", *_previous: object, partner_id: str | None = None
) -> dict[str, Any]:
    """Enrol every active sub-account that Dintero lists, and drop what is gone; returns counts.

    The sweep sends this once an hour. New accounts are due at once; accounts forgotten on purpose
    stay so. One is gone only when two complete listings in a row lack it, or list it as inactive or
    deleted; imported ones never are, and too many at once wait for an operator.
    """
    process = runtime()
    fleet = process.fleet(partner_id)
    partner_id = fleet.partner.partner_id
    try:
        found = process.call(discover_accounts(fleet, self.app))
    except DinteroError as error:
        log.error("discovery.failed", partner_id=partner_id, reason=error.reason, error=str(error))
        raise
    if found.held_back:
        log.error(
            "accounts.held_back",
            partner_id=partner_id,
            missing=found.held_back,
            remedy="if Dintero's list is right: subtokens accounts discover --drop-missing",
        )
    return found.as_dict()


@shared_task(
    name="subtokens.forget", bind=True, queue=SWEEP_QUEUE, acks_late=True, ignore_result=False
)
def forget(
    self: "Task[Any, Any]", account_ids: Sequence[str], *, partner_id: str | None = None
) -> dict[str, Any]:
    """Drop accounts with their tokens until they are imported again; returns how many."""
    process = runtime()
    fleet = process.fleet(partner_id)
    ids = ids_in_a_message(account_ids, fleet.partner.partner_id)
    settled = process.call(fleet.store.forget(ids))
    process.call(release(fleet, self.app, settled.ended_runs))
    log.info("accounts.forgotten", partner_id=fleet.partner.partner_id, count=settled.accounts)
    return {"partner_id": fleet.partner.partner_id, "forgotten": settled.accounts}


async def discover_accounts(fleet: Fleet, app: Celery, *, drop_missing: bool = False) -> Discovery:
    """Walk the partner's account list, enrol what is active page by page, drop what is gone.

    With `drop_missing`, however many those are. Raises DinteroError; the pages read until then
    are enrolled, and nothing is dropped.
    """
    store, partner_id = fleet.store, fleet.partner.partner_id
    started_ms = store.now_ms()
    listed = enrolled = 0
    present: set[str] = set()
    odd: list[str] = []
    async with _held(fleet):
        async for page in pages_of_accounts(lambda after: _fetch_page(fleet, after)):
            wanted = [account for account in page if _is_wanted(account, partner_id, odd)]
            listed += len(page)
            present.update(account.account_id for account in wanted)
            pairs = [(account.account_id, account.display_name) for account in wanted]
            enrolled += await store.enrol(pairs, "discovered")
    gone, members = await absent_twice(store, present, started_ms)
    held_back = 0 if drop_missing or not is_too_many(len(gone), members) else len(gone)
    settled = await drop(store, [] if held_back else gone)
    await release(fleet, app, settled.ended_runs)
    discovery = Discovery(
        partner_id, listed, listed - len(present), enrolled, settled.accounts, held_back
    )
    interval_ms = int(fleet.settings.discovery_interval_seconds * 1000)
    due_ms = started_ms + interval_ms if interval_ms else ""
    await fleet.metrics.write(is_last=True)
    await store.scripts.run("note_discovery", store.now_ms(), due_ms, listed, held_back)
    log.info("accounts.discovered", **discovery.as_dict())
    if odd:
        log.warning("accounts.skipped", partner_id=partner_id, count=len(odd), error=odd[0])
    return discovery


@asynccontextmanager
async def _held(fleet: Fleet) -> AsyncIterator[None]:
    """No other discovery is sent meanwhile; one that fails, or whose worker is killed, soon is."""

    async def hold_on() -> None:
        while True:
            until_ms = fleet.store.now_ms() + int(DISCOVERY_LEASE_SECONDS * 1000)
            with suppress(RedisError):  # the walk itself meets it, and says so
                await fleet.store.scripts.run("hold_discovery", until_ms)
            heed_cancellation()
            await asyncio.sleep(_HELD_EVERY_SECONDS)

    holding = asyncio.create_task(hold_on())
    try:
        yield
    finally:
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)


async def _fetch_page(fleet: Fleet, after: str | None) -> list[ListedAccount]:
    seconds = PAGE_SECONDS + 3 / fleet.rate.per_second
    try:
        async with asyncio.timeout(seconds):
            return await _fetch_page_patiently(fleet, after)
    except TimeoutError:
        raise UnreachableError(ACCOUNTS, f"no page within {seconds:.3g} s") from None


async def _fetch_page_patiently(fleet: Fleet, after: str | None) -> list[ListedAccount]:
    """One page; a passing fault of the upstream is waited out, as a listing has many pages."""
    for pause_seconds in _PAUSES_SECONDS:
        try:
            return await _fetch_page_once(fleet, after)
        except DinteroError as error:
            if error.blame is not Blame.UPSTREAM:
                raise
            if isinstance(error, ThrottledError) and error.status:  # that binds all others, too
                await fleet.limiters["renew"].pause(error.retry_after_seconds, str(error))
            await asyncio.sleep(max(pause_seconds, error.retry_after_seconds or 0.0))
    return await _fetch_page_once(fleet, after)


async def _fetch_page_once(fleet: Fleet, after: str | None) -> list[ListedAccount]:
    partner_id, limiter = fleet.partner.partner_id, fleet.limiters["renew"]  # upkeep, too
    bearer = await fleet.exchanger.partner_token.get()
    await limiter.permit()
    try:
        return await fleet.client.list_accounts(partner_id, bearer.access_token, after)
    except UnauthorizedError:
        bearer = await fleet.exchanger.partner_token.get(newer_than=bearer.generation)
        await limiter.permit()
        return await fleet.client.list_accounts(partner_id, bearer.access_token, after)


def _is_wanted(account: ListedAccount, partner_id: str, odd: list[str]) -> bool:
    if not account.active or account.deleted_at:
        return False
    try:
        checked_account_id(account.account_id, partner_id)
    except InputError as error:
        if account.account_id != partner_id:
            odd.append(str(error))
            log.debug("account.skipped", partner_id=partner_id, error=str(error))
        return False
    return True
