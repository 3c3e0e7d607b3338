"""One account's exchange: the upstream calls in their order, from partner token to record."""

from ...config.settings import Partner
from ..dintero.client import DinteroClient
from ..dintero.errors import UnauthorizedError
from ..dintero.wire import TokenAnswer
from .limiter import Limiter
from .partner_token import PartnerToken
from .record import Kind, TokenRecord
from .renewal import renew_ms
from .store import TokenStore


class Exchanger:
    """Makes records out of upstream calls for one partner; every call has its permit.

    `reserve_seconds` is the time that renewal leaves before expiry for further attempts.
    """

    def __init__(
        self,
        partner: Partner,
        client: DinteroClient,
        store: TokenStore,
        limiter: Limiter,
        *,
        call_timeout_seconds: float,
        reserve_seconds: float,
    ) -> None:
        self._partner = partner
        self._client = client
        self._store = store
        self._limiter = limiter
        self._reserve_seconds = reserve_seconds
        # The lock covers the wait for a permit, the call and the write.
        lease_seconds = call_timeout_seconds * 2 + 5
        self.partner_token = PartnerToken(store, self._fetch_partner_token, lease_seconds)
        self.refresh_tokens_dropped = 0

    async def exchange(self, account_id: str, generation: int) -> TokenRecord:
        """Exchange for one account; the caller holds a permit for the first call.

        A 401 costs one new partner token, shared by all that got one, and one more try.
        Raises DinteroError, or redis.RedisError where the store fails.
        """
        bearer = await self.partner_token.get()
        try:
            return await self._exchange_with(bearer, account_id, generation)
        except UnauthorizedError:
            bearer = await self.partner_token.get(newer_than=bearer.generation)
            await self._limiter.permit()
            return await self._exchange_with(bearer, account_id, generation)

    async def _exchange_with(
        self, bearer: TokenRecord, account_id: str, generation: int
    ) -> TokenRecord:
        partner = self._partner
        issued_ms, kind = self._store.now_ms(), Kind.EXCHANGE
        answer = await self._client.exchange(partner.partner_id, bearer.access_token, account_id)
        if partner.token_kind == "account":
            audience_id = partner.partner_id if partner.audience == "partner" else account_id
            await self._limiter.permit()
            issued_ms, kind = self._store.now_ms(), Kind.ACCOUNT
            answer = await self._client.account_token(
                account_id, answer.access_token.get_secret_value(), audience_id
            )
        return self._record(account_id, answer, kind, generation, issued_ms)

    async def _fetch_partner_token(self, generation: int) -> TokenRecord:
        partner = self._partner
        await self._limiter.permit()
        issued_ms = self._store.now_ms()
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
        if kind is Kind.PARTNER:
            due_ms = issued_ms + lifetime_ms // 2
        else:
            due_ms = renew_ms(account_id, generation, issued_ms, expires_ms, self._reserve_seconds)
        token = answer.access_token.get_secret_value()
        return TokenRecord(account_id, token, kind, generation, issued_ms, due_ms, expires_ms)
