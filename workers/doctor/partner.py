"""The checks of one partner: Dintero first, then what the store holds and who is at work."""

from collections.abc import AsyncIterator

from ...config.settings import Settings
from ...tasks.dintero.transport import open_transport
from ...tasks.fleet import Fleet, open_store
from ...tasks.tokens.scripts import misplaced
from ..fleets import status_of
from . import stored
from .clocks import clock
from .dated import DatedTransport
from .finding import Finding, doubtful, failed
from .upstream import PERMIT_SECONDS, upstream_findings


async def partner_findings(
    settings: Settings, partner_id: str, account_id: str | None, *, with_calls: bool
) -> AsyncIterator[Finding]:
    """Every finding about one partner. Raises redis.RedisError."""
    redis = open_store(settings.store_url.get_secret_value())
    transport = DatedTransport(open_transport(settings.concurrency, settings.upstream_ca_file))
    fleet = Fleet(settings, settings.partner(partner_id), redis, transport)
    try:
        if amiss := await misplaced(redis, fleet.store.keys):
            what, _, remedy = amiss.partition(": ")
            yield failed("keys in the store", what, remedy)
            return
        status = await status_of(fleet)
        if with_calls and status.paused_seconds > PERMIT_SECONDS and not status.barred_by:
            text, remedy = "none was made, as the fleet is paused", "see pause, below"
            yield doubtful("calls", text, remedy)
        elif with_calls:
            async for finding in upstream_findings(fleet, settings, account_id):
                yield finding
        if transport.ahead_seconds is not None:
            yield clock("clock of Dintero", "Dintero's", transport.ahead_seconds)
        accounts = await stored.sample(fleet.store)
        opened = await stored.records(fleet.store, accounts)
        yield opened
        if opened.level == "ok":
            yield await stored.reading(settings, partner_id, accounts)
        yield stored.sweep(status)
        for finding in stored.pause(status):
            yield finding
        yield stored.accounts_held(status)
    finally:
        await transport.aclose()
        await redis.aclose()
