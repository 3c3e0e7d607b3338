"""Which accounts there are: discovery at Dintero, and forgetting."""

from collections.abc import Sequence
from typing import Any

from celery import Task, shared_task

from ..config.celeryconfig import EXCHANGE_QUEUE, SWEEP_QUEUE
from ..config.errors import InputError
from ..config.ids import checked_account_id, checked_account_ids
from ..config.logs import log
from .dintero.client import pages_of_accounts
from .dintero.errors import UnauthorizedError
from .dintero.wire import ListedAccount
from .fleet import Fleet
from .runtime import runtime
from .waiting import release


@shared_task(name="subtokens.discover", queue=EXCHANGE_QUEUE, acks_late=True, ignore_result=False)
def discover(*_previous: object, partner_id: str | None = None) -> dict[str, Any]:
    """Enrol every active sub-account that Dintero lists for the partner; returns counts.

    New accounts are due at once. Accounts forgotten on purpose stay so.
    """
    process = runtime()
    fleet = process.fleet(partner_id)
    counts = process.call(discover_accounts(fleet))
    log.info("accounts.discovered", **counts)
    return counts


@shared_task(
    name="subtokens.forget", bind=True, queue=SWEEP_QUEUE, acks_late=True, ignore_result=False
)
def forget(
    self: "Task[Any, Any]", account_ids: Sequence[str], *, partner_id: str | None = None
) -> dict[str, Any]:
    """Drop accounts with their tokens until they are imported again; returns how many."""
    process = runtime()
    fleet = process.fleet(partner_id)
    ids = checked_account_ids(account_ids, fleet.partner.partner_id)
    settled = process.call(fleet.store.forget(ids))
    process.call(release(fleet, self.app, settled.ended_runs))
    log.info("accounts.forgotten", partner_id=fleet.partner.partner_id, count=settled.accounts)
    return {"partner_id": fleet.partner.partner_id, "forgotten": settled.accounts}


async def discover_accounts(fleet: Fleet) -> dict[str, Any]:
    """Walk the partner's account list and enrol what is active, page by page.

    Raises DinteroError; the pages read until then are enrolled.
    """
    partner_id = fleet.partner.partner_id

    async def fetch_page(after: str | None) -> list[ListedAccount]:
        bearer = await fleet.exchanger.partner_token.get()
        await fleet.limiter.permit()
        try:
            return await fleet.client.list_accounts(partner_id, bearer.access_token, after)
        except UnauthorizedError:
            bearer = await fleet.exchanger.partner_token.get(newer_than=bearer.generation)
            await fleet.limiter.permit()
            return await fleet.client.list_accounts(partner_id, bearer.access_token, after)

    listed = skipped = enrolled = 0
    async for page in pages_of_accounts(fetch_page):
        wanted = [account for account in page if _is_wanted(account, partner_id)]
        listed += len(page)
        skipped += len(page) - len(wanted)
        pairs = [(account.account_id, account.display_name) for account in wanted]
        enrolled += await fleet.store.enrol(pairs, "discovered")
    return {"partner_id": partner_id, "listed": listed, "enrolled": enrolled, "skipped": skipped}


def _is_wanted(account: ListedAccount, partner_id: str) -> bool:
    if not account.active or account.deleted_at:
        return False
    try:
        checked_account_id(account.account_id, partner_id)
    except InputError as error:
        if account.account_id != partner_id:
            log.warning("account.skipped", partner_id=partner_id, error=str(error))
        return False
    return True
