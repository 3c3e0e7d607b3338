"""One account's exchange: the upstream calls in their order, from partner token to record."""

import asyncio
import random

from ...config.logs import log
from ...config.partners import Partner
from ..dintero.client import PARTNER_TOKEN, DinteroClient
from ..dintero.errors import (
    DinteroError,
    InvalidAnswerError,
    ThrottledError,
    UnauthorizedError,
)
from ..dintero.wire import TokenAnswer
from .circuit import Circuit
from .limiter import Limiter
from .partner_token import PartnerToken
from .record import Kind, TokenRecord
from .renewal import SHORTEST_LIFETIME_SECONDS, Cadence, even_places, renew_ms
from .store import TokenStore


class Exchanger:
    """Makes records out of upstream calls for one partner; every call has its permit."""

    def __init__(
        self,
        partner: Partner,
        client: DinteroClient,
        store: TokenStore,
        limiter: Limiter,
        circuit: Circuit,
        *,
        call_timeout_seconds: float,
    ) -> None:
        self._partner = partner
        self._client = client
        self.store = store
        self._limiter = limiter
        self.circuit = circuit
        self.cadence = Cadence(call_timeout_seconds * partner.calls_per_exchange)
        # The lock covers the wait for a permit, the call and the write. A pause outlasts it: each
        # worker would have it once, and call when the pause is over.
        self.permit_seconds = call_timeout_seconds
        lease_seconds = call_timeout_seconds * 2 + 5
        self.partner_token = PartnerToken(
            store, self._fetch_partner_token, lease_seconds, self._give_up
        )
        self.succeeded_from = (
            0.0  # on the loop's clock: the last exchange that succeeded began then
        )
        self.refresh_tokens_dropped = 0
        # Each process has places of its own; together they are nearly as even.
        self._places = even_places(random.random())  # noqa: S311 - no secret
        self._has_warned = False

    async def exchange(self, account_id: str, generation: int, limiter: Limiter) -> TokenRecord:
        """Exchange for one account; the caller holds a permit of `limiter` for the first call.

        A 401 costs one new partner token, shared by all that got one, and one more try.
        Raises DinteroError, CircuitOpenError where nobody may call, or redis.RedisError.
        """
        bearer = await self.partner_token.get()
        try:
            return await self._exchange_with(bearer, account_id, generation, limiter)
        except UnauthorizedError:
            bearer = await self.partner_token.get(newer_than=bearer.generation)
            await limiter.permit()
            return await self._exchange_with(bearer, account_id, generation, limiter)

    async def _exchange_with(
        self, bearer: TokenRecord, account_id: str, generation: int, limiter: Limiter
    ) -> TokenRecord:
        partner = self._partner
        issued_ms, kind = self.store.now_ms(), Kind.EXCHANGE
        began = asyncio.get_running_loop().time()
        answer = await self._client.exchange(partner.partner_id, bearer.access_token, account_id)
        if partner.token_kind == "account":
            audience_id = partner.partner_id if partner.audience == "partner" else account_id
            await limiter.permit()
            issued_ms, kind = self.store.now_ms(), Kind.ACCOUNT
            answer = await self._client.account_token(
                account_id, answer.access_token.get_secret_value(), audience_id
            )
        record = self._record(account_id, answer, kind, generation, issued_ms)
        self.succeeded_from = max(self.succeeded_from, began)
        return record

    async def _give_up(self, error: DinteroError) -> DinteroError:
        """Without the partner's token nobody can call: a pause or the circuit binds all workers."""
        if not isinstance(error, ThrottledError):
            return await self.circuit.open(error)
        if error.status is None:  # nobody was asked: a pause is there already
            return error
        await self._limiter.pause(error.retry_after_seconds, str(error))
        return error

    async def _fetch_partner_token(self, generation: int) -> TokenRecord:
        partner = self._partner
        try:
            async with asyncio.timeout(self.permit_seconds):
                await self._limiter.permit()
        except TimeoutError:
            detail = f"no call may be made for {self.permit_seconds:g} s and longer"
            raise ThrottledError(PARTNER_TOKEN, detail) from None
        issued_ms = self.store.now_ms()
        answer = await self._client.partner_token(
            partner.partner_id, partner.client_id, partner.client_secret.get_secret_value()
        )
        return self._record(partner.partner_id, answer, Kind.PARTNER, generation, issued_ms)

    def _record(
        self, account_id: str, answer: TokenAnswer, kind: Kind, generation: int, issued_ms: int
    ) -> TokenRecord:
        if answer.refresh_token is not None:
            self.refresh_tokens_dropped += 1
        lifetime_ms = answer.expires_in * 1000
        expires_ms = issued_ms + lifetime_ms
        if expires_ms <= self.store.now_ms():
            raise InvalidAnswerError(kind.name.lower(), "the token had expired when it arrived")
        if kind is Kind.PARTNER:
            due_ms = issued_ms + lifetime_ms // 2
        else:
            due_ms = renew_ms(next(self._places), issued_ms, expires_ms, self.cadence)
            self._warn_of_short_life(answer.expires_in)
        token = answer.access_token.get_secret_value()
        return TokenRecord(account_id, token, kind, generation, issued_ms, due_ms, expires_ms)

    def _warn_of_short_life(self, seconds: int) -> None:
        if seconds < SHORTEST_LIFETIME_SECONDS and not self._has_warned:
            self._has_warned = True
            log.warning(
                "token.issued_short",
                partner_id=self._partner.partner_id,
                lifetime_seconds=seconds,
                shortest_seconds=SHORTEST_LIFETIME_SECONDS,
            )
