"""A partner's circuit breaker: while it is open, nobody calls but one prober at a time."""

import time
from collections.abc import Callable

from ...config.logs import log
from ..dintero.errors import Blame, DinteroError
from .scripts import Scripts

_ANSWERED_KEPT_SECONDS = 2.0
_REMEDIES = {
    Blame.CREDENTIAL: "check the client's id, secret and grants: subtokens doctor; "
    "it is tried again within a minute",
    Blame.US: "check SUBTOKENS_BASE_URL; it is tried again within a minute",
}


class CircuitOpenError(DinteroError):
    """Nobody calls Dintero for this partner now; whatever was to be done keeps its place."""

    reason = "circuit_open"

    def __init__(self, blame: Blame, reason: str) -> None:
        self.blame = blame
        super().__init__("no call is made for now", reason)


class Circuit:
    """One partner's circuit, shared by all workers. Methods raise redis.RedisError.

    It opens as soon as the partner's credential is refused, or once hardly any call is answered.
    `clock` gives epoch seconds.
    """

    def __init__(
        self, scripts: Scripts, partner_id: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._scripts = scripts
        self._partner_id = partner_id
        self._clock = clock
        self._known: CircuitOpenError | None = None
        self._answered = 0
        self._answered_since = 0.0

    def check(self) -> None:
        """Raise CircuitOpenError where this process knows that it is open."""
        if self._known:
            raise CircuitOpenError(self._known.blame, self._known.detail)

    def note_closed(self) -> bool:
        """A claim was granted. Returns whether this process has not known."""
        was_open, self._known = self._known is not None, None
        return was_open

    async def open(self, error: DinteroError, *, by_prober: bool = False) -> CircuitOpenError:
        """Keep everybody from calling, as `error` says; returns what their calls end with."""
        # What is refused to the partner itself is its credential's fault.
        blame = Blame.CREDENTIAL if error.blame is Blame.ACCOUNT else error.blame
        reason = error.detail if isinstance(error, CircuitOpenError) else str(error)
        wait_ms = int((error.retry_after_seconds or 0) * 1000)
        news = await self._run("open_circuit", str(blame), reason, wait_ms, int(by_prober))
        return self._opened(blame, reason, is_news=bool(news))

    async def probe_now(self) -> str:
        """Let a prober try at once whether it may close; returns why it is open, or ""."""
        reason: bytes = await self._scripts.run("probe_now", int(self._clock() * 1000))
        return reason.decode()

    async def close(self) -> None:
        """A prober's calls were answered."""
        blame = (await self._scripts.run("close_circuit")).decode()
        self._known = None
        if blame:
            is_upstreams = blame == Blame.UPSTREAM
            log.info(
                "upstream.recovered" if is_upstreams else "partner.resumed",
                partner_id=self._partner_id,
            )

    async def weigh(self, answered: int, failed: int, reason: str) -> None:
        """Count calls that the upstream answered, whatever it said, and those that it failed."""
        now = self._clock()
        if now - self._answered_since > _ANSWERED_KEPT_SECONDS:
            self._answered, self._answered_since = 0, now
        self._answered += answered
        if failed:
            answered, self._answered = self._answered, 0
            if await self._run("weigh", answered, failed, reason):
                self._opened(Blame.UPSTREAM, reason, is_news=True)

    async def _run(self, script: str, *arguments: str | float) -> int:
        return int(await self._scripts.run(script, int(self._clock() * 1000), *arguments))

    def _opened(self, blame: Blame, reason: str, *, is_news: bool) -> CircuitOpenError:
        self._known = CircuitOpenError(blame, reason)
        if is_news and blame is Blame.UPSTREAM:
            log.warning("upstream.failing", partner_id=self._partner_id, reason=reason)
        elif is_news:
            log.error(
                "partner.suspended",
                partner_id=self._partner_id,
                blame=str(blame),
                reason=reason,
                remedy=_REMEDIES[blame],
            )
        return self._known
