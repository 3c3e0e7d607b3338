"""Whose fault a refusal is, and whether a partner's trouble is over: asked of known accounts."""

import asyncio
from typing import cast

from ...config.ids import ACCOUNT_ID
from ...config.logs import log
from ..dintero.errors import Blame, DinteroError, ThrottledError
from .exchanger import Exchanger
from .limiter import Limiter
from .store import text_of

_GATHERED_SECONDS = 0.05
_WITNESSES, _CONSIDERED = 3, 50


class Prober:
    """Calls for accounts that got their token lately: if even those are refused, it is not them."""

    def __init__(self, exchanger: Exchanger, limiter: Limiter) -> None:
        self._store = exchanger.store
        self._exchanger = exchanger
        self._circuit = exchanger.circuit
        self._limiter = limiter
        self._gathering: asyncio.Task[DinteroError | None] | None = None
        self._asked_at = 0.0

    async def blame_account(self, refusal: DinteroError) -> None:
        """Return if a refusal is its account's own fault; one look serves all that ask meanwhile.

        Raises CircuitOpenError where it is the partner's: no account is to be punished then.
        """
        self._asked_at = asyncio.get_running_loop().time()
        if self._gathering is None:
            self._gathering = asyncio.create_task(self._look())
        if await asyncio.shield(self._gathering):
            raise await self._circuit.open(refusal)

    async def try_again(self, blame: Blame) -> None:
        """Call as the only one who may; the circuit closes, or stays open for longer."""
        witnesses = await self._witnesses()
        bearer = self._exchanger.partner_token
        try:
            # A credential is mended when a new token is had by it, and the token is of use.
            is_new = blame is not Blame.UPSTREAM or not witnesses
            await bearer.get(newer_than=bearer.generation if is_new else 0)
            refusal = await self._refused_by_all(witnesses)
            if refusal:
                raise refusal
        except DinteroError as error:
            log.debug("probe.failed", partner_id=self._store.keys.partner_id, error=str(error))
            await self._circuit.open(error, by_prober=True)
        else:
            await self._circuit.close()

    async def _look(self) -> DinteroError | None:
        """The refusal that all witnesses met; None where one of them got a token, or none is."""
        await asyncio.sleep(_GATHERED_SECONDS)
        self._gathering = None  # who asks from now on has met a later refusal
        if self._exchanger.succeeded_from > self._asked_at:
            return None
        try:
            return await self._refused_by_all(await self._witnesses())
        except DinteroError:
            return None  # no proof of anything

    async def _refused_by_all(self, witnesses: list[str]) -> DinteroError | None:
        refusal = None
        for account_id in witnesses:
            await self._limiter.permit()
            try:
                await self._exchanger.exchange(account_id, 0, self._limiter)
            except ThrottledError:
                raise
            except DinteroError as error:
                if error.blame not in {Blame.ACCOUNT, Blame.CREDENTIAL}:
                    raise
                refusal = error
            else:
                return None
        return refusal

    async def _witnesses(self) -> list[str]:
        """Accounts whose tokens live longest, so that were exchanged last; none that fails."""
        redis, keys = self._store.redis, self._store.keys
        now = self._store.now_ms()
        found = cast(
            "list[bytes]",
            await redis.zrange(
                keys.expiry, "+inf", f"({now}", byscore=True, desc=True, offset=0, num=_CONSIDERED
            ),
        )
        if not found:
            return []
        failing = await redis.smismember(keys.failing, found)
        well = [text_of(a) for a, fails in zip(found, failing, strict=True) if not fails]
        return [account for account in well if ACCOUNT_ID.fullmatch(account)][:_WITNESSES]
