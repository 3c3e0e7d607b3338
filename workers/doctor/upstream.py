"""Checks that call Dintero, in the order in which the next needs the one before."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from ...config.partners import Partner
from ...config.settings import Settings
from ...tasks.dintero.client import PAGE_SIZE
from ...tasks.dintero.errors import DinteroError
from ...tasks.dintero.wire import ListedAccount
from ...tasks.fleet import Fleet
from ...tasks.tokens.circuit import CircuitOpenError
from .blame import blamed
from .finding import Finding, doubtful, well
from .kinds import EXCHANGE, KINDS, Kind, configured_kind, token_kind

PERMIT_SECONDS = 5.0
T = TypeVar("T")


class NoPermit(Exception):  # noqa: N818 - says what is the matter, as read aloud
    """The rate limit gave no permit in time."""


async def upstream_findings(
    fleet: Fleet, settings: Settings, account_id: str | None
) -> AsyncIterator[Finding]:
    """Credential, account list, exchange and token kind of one partner; stores nothing."""
    try:
        async for finding in _in_order(fleet, settings, account_id):
            yield finding
    except NoPermit:
        yield doubtful(
            "calls",
            f"the rate limit of all workers gave no permit within {PERMIT_SECONDS:g} s",
            "try again when they are less busy or no longer paused: subtokens status",
        )


async def _in_order(
    fleet: Fleet, settings: Settings, account_id: str | None
) -> AsyncIterator[Finding]:
    client, partner = fleet.client, fleet.partner
    secret = partner.client_secret.get_secret_value()
    try:
        answer = await _permitted(
            fleet, lambda: client.partner_token(partner.partner_id, partner.client_id, secret)
        )
    except DinteroError as error:
        yield blamed("credential", error, partner, _credential_remedies(partner))
        return
    bearer = answer.access_token.get_secret_value()
    yield well("credential", f"the partner's token was got; it lives {answer.expires_in} s")

    listed: list[ListedAccount] = []
    try:
        listed = await _permitted(fleet, lambda: client.list_accounts(partner.partner_id, bearer))
        yield _listed(listed)
    except DinteroError as error:
        scope = "give the API client the scope admin:accounts or read:accounts at Dintero"
        yield blamed("account list", error, partner, {401: scope, 403: scope})

    chosen = account_id or next((a.account_id for a in listed if _is_active(a)), None)
    if chosen is None:
        text = "no account to try: none that is active stands on the first page"
        yield doubtful("exchange", text, "name one: subtokens doctor --account T11200001")
        return
    try:
        answer = await _permitted(
            fleet, lambda: client.exchange(partner.partner_id, bearer, chosen)
        )
    except DinteroError as error:
        own = f"is {chosen} active and one of {partner.partner_id}'s? try another with --account"
        yield blamed("exchange", error, partner, {400: own, 403: own, 404: own})
        return
    yield well("exchange", f"{chosen} got a token; it lives {answer.expires_in} s")
    tried = await _try_kinds(fleet, chosen, answer.access_token.get_secret_value())
    from_file = settings.partners_file is not None
    yield token_kind("token kind", tried, configured_kind(partner), from_file=from_file)


async def _permitted(fleet: Fleet, call: Callable[[], Awaitable[T]]) -> T:
    try:
        async with asyncio.timeout(PERMIT_SECONDS):
            await fleet.limiters["renew"].permit()
    except TimeoutError:
        raise NoPermit from None
    except CircuitOpenError:
        pass  # its reason is what the doctor is asked about, and the first refusal ends its calls
    return await call()


async def _try_kinds(
    fleet: Fleet, account_id: str, exchange_token: str
) -> dict[Kind, DinteroError | None]:
    tried: dict[Kind, DinteroError | None] = dict.fromkeys(KINDS)
    for kind in KINDS:
        try:
            await _read_settings(fleet, account_id, exchange_token, kind)
        except DinteroError as error:
            tried[kind] = error
    return tried


async def _read_settings(fleet: Fleet, account_id: str, exchange_token: str, kind: Kind) -> None:
    client, token = fleet.client, exchange_token
    if kind != EXCHANGE:
        owner = fleet.partner.partner_id if kind.audience == "partner" else account_id
        answer = await _permitted(
            fleet, lambda: client.account_token(account_id, exchange_token, owner)
        )
        token = answer.access_token.get_secret_value()
    await _permitted(fleet, lambda: client.account_settings(account_id, token))


def _listed(listed: list[ListedAccount]) -> Finding:
    active = sum(map(_is_active, listed))
    more = ", and more follow" if len(listed) == PAGE_SIZE else ""
    text = f"{len(listed)} accounts on its first page, {active} active{more}"
    if listed:
        return well("account list", text)
    return doubtful("account list", "it is empty", "is it this partner that has the sub-accounts?")


def _is_active(account: ListedAccount) -> bool:
    return account.active and not account.deleted_at


def _credential_remedies(partner: Partner) -> dict[int, str]:
    audience = f"the API client must be {partner.partner_id}'s own, as its audience is that account"
    client = f"correct client id and secret of {partner.partner_id}: SUBTOKENS_CLIENT_ID, …_SECRET"
    return {400: audience, 401: client, 403: f"{audience}: check SUBTOKENS_PARTNER_ID"}
