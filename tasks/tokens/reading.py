"""What readers do, told as steps: a reader, sync or async, follows them with its own client."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Generic, TypeVar

from ...config.durations import Duration, seconds_of
from ...config.ids import checked_account_id, checked_account_ids
from ...config.logs import log
from ...config.settings import StoreSettings, load
from .errors import NoTokenError, SealError
from .keys import PartnerKeys
from .record import TokenRecord, instant_of
from .sealing import Opener, Sealer
from .shelf import Shelf
from .store import last_outcome, number_of

_MOST_IN_A_COMMAND = 1_000
_MOST_REJECTIONS = 10_000
_IS_REPORTED = "this is reported, and the workers replace it soon; to have it now"
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS, _GROWTH = 0.02, 0.25, 1.5

T = TypeVar("T")
Client = TypeVar("Client")
# Commands as Redis knows them, as a pipeline of a cluster's client lacks some methods. They are
# answered by a list, and a float is a pause of so many seconds.
RoundTrip = list[tuple[Any, ...]]
Steps = Generator[RoundTrip | float, list[Any], T]


class Reading(ABC, Generic[Client]):
    """What both readers are made of, and the steps of their methods."""

    def __init__(
        self,
        settings: StoreSettings | None = None,
        *,
        partner_id: str | None = None,
        cache_seconds: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        chosen = settings or load(StoreSettings)
        self.partner_id = chosen.chosen_partner_id(partner_id)
        self._keys = PartnerKeys(chosen.namespace, self.partner_id)
        derived = chosen.derived_keys
        self._opener = Opener(derived) if derived else Sealer(self.partner_id, chosen.master_keys)
        self._clock = clock
        self._shelf = Shelf(cache_seconds, clock)
        self._redis = self._open(chosen.store_url.get_secret_value())

    @staticmethod
    @abstractmethod
    def _open(url: str) -> Client:
        """The kind of client that this kind of reader asks."""

    def at_hand(self, account_id: str, valid_for: Duration) -> TokenRecord | None:
        """The token, if Redis need not be asked for it."""
        # An id that is found here was checked when its record came; any other is checked next.
        is_text = isinstance(account_id, str)
        return self._shelf.find(account_id, seconds_of(valid_for)) if is_text else None

    def waiting(
        self, account_id: str, valid_for: Duration, newer_than: int = 0, timeout: float = 0.0
    ) -> Steps[TokenRecord]:
        """Look for the token until the timeout, in seconds; at least once."""
        account = checked_account_id(account_id, self.partner_id)
        seconds, ends_at = seconds_of(valid_for), time.monotonic() + timeout
        pause, fault = _FIRST_PAUSE_SECONDS, ""
        while True:
            record = self._shelf.find(account, seconds)
            if record is None or record.generation <= newer_than:
                # MGET takes what is no string for missing, where GET fails.
                ((sealed,),) = yield [("MGET", self._keys.token(account))]
                former_fault, fault = fault, ""
                try:
                    record = None if sealed is None else self._opened(account, sealed)
                except SealError as error:
                    record, fault = None, str(error)
                    if not former_fault:
                        yield from self._reporting([account])
            is_new = record is not None and record.generation > newer_than
            if record and is_new and record.lasts(seconds, self._clock()):
                return record
            left = ends_at - time.monotonic()
            if left <= 0:
                if fault:
                    raise SealError(f"{fault}; {_IS_REPORTED}: subtokens exchange {account}")
                raise NoTokenError((yield from self._why_none(account, record, seconds, is_new)))
            yield min(pause, left)
            pause = min(pause * _GROWTH, _LONGEST_PAUSE_SECONDS)

    def gathering(
        self, account_ids: Iterable[str], valid_for: Duration
    ) -> Steps[dict[str, TokenRecord]]:
        """Look for many tokens at once."""
        accounts, seconds = checked_account_ids(account_ids, self.partner_id), seconds_of(valid_for)
        found = {account: self._shelf.find(account, seconds) for account in accounts}
        missing = [account for account, record in found.items() if record is None]
        parts = [
            missing[start : start + _MOST_IN_A_COMMAND]
            for start in range(0, len(missing), _MOST_IN_A_COMMAND)
        ]
        commands: RoundTrip = [("MGET", *map(self._keys.token, part)) for part in parts]
        answers = (yield commands) if commands else []
        shut: dict[str, str] = {}
        for part, answer in zip(parts, answers, strict=True):
            for account, sealed in zip(part, answer, strict=True):
                try:
                    found[account] = None if sealed is None else self._opened(account, sealed)
                except SealError as error:
                    shut[account] = str(error)
                    log.debug("token.not_opened", account_id=account, error=str(error))
            yield 0.0  # an event loop has other work as well
        if shut:
            first = next(iter(shut.values()))
            log.warning(
                "tokens.not_opened", partner_id=self.partner_id, count=len(shut), error=first
            )
        yield from self._reporting(list(shut)[:_MOST_IN_A_COMMAND])
        now = self._clock()
        return {account: r for account, r in found.items() if r and r.lasts(seconds, now)}

    def rejecting(self, record: TokenRecord) -> Steps[None]:
        """Report a token that Dintero refused."""
        self._shelf.drop(record)
        yield [self._report(record.account_id, record.generation)]

    def _reporting(self, accounts: Sequence[str]) -> Steps[None]:
        """Have the tokens replaced that cannot be opened, whichever generation the store knows."""
        states = [("HMGET", self._keys.state(account), "generation") for account in accounts]
        generations = (yield states) if states else []
        reports = [
            self._report(account, generation)
            for account, (generation,) in zip(accounts, generations, strict=True)
            if generation is not None
        ]
        if reports:
            yield reports

    def _report(self, account: str, generation: int | bytes) -> tuple[Any, ...]:
        what = ("account", account, "generation", generation)
        return ("XADD", self._keys.rejections, "MAXLEN", "~", _MOST_REJECTIONS, "*", *what)

    def _opened(self, account: str, sealed: bytes) -> TokenRecord:
        record = self._opener.open(sealed, self._keys.token(account), account)
        self._shelf.keep(record)
        return record

    def _why_none(
        self, account: str, record: TokenRecord | None, seconds: float, is_new: bool
    ) -> Steps[str]:
        if record and record.lasts(0, self._clock()):
            if not is_new:
                told = f"{account} has no newer token than that of generation {record.generation}"
                return f"{told}; what comes next: subtokens explain {account}"
            lifetime = (record.expires_ms - record.issued_ms) / 1000
            remedy = f"to replace it: subtokens exchange {account}"
            if seconds >= lifetime:
                remedy = f"a new one will not last so long either: they live {lifetime:.12g} s"
            return (
                f"{account} has a token, but it is valid only until {_utc(record.expires_ms)}, "
                f"although {seconds:.12g} s were asked for; {remedy}"
            )
        fields = ("quarantined_at", "history", "expires_at", "generation")
        due, covered_until, (quarantined_at, history, expires_at, generation) = yield [
            ("ZSCORE", self._keys.due, account),
            ("ZSCORE", self._keys.expiry, account),
            ("HMGET", self._keys.state(account), *fields),
        ]
        last, until_ms = last_outcome(history or b""), number_of(expires_at or covered_until, -1)
        seen = f"last attempt: {last or 'none'}; what comes next: subtokens explain {account}"
        if due is None:
            why = "it is not enrolled; to enrol what Dintero lists: subtokens accounts discover"
        elif quarantined_at:
            why = (
                f"it is in quarantine since {_utc(quarantined_at)} for {last}; once that is put "
                f"right: subtokens exchange --retry {account}"
            )
        elif until_ms < 0:
            why = f"it was never exchanged; {seen}"
        elif record is None and until_ms > self._clock() * 1000 and generation is not None:
            yield [self._report(account, generation)]
            why = (
                f"it is gone from the store before its end at {_utc(until_ms)}, evicted or "
                f"deleted; {_IS_REPORTED}: subtokens exchange {account}"
            )
        else:
            why = f"it has expired since {_utc(until_ms)}; {seen}"
        return f"{account} has no valid token: {why}"


def _utc(milliseconds: float | bytes) -> str:
    return f"{instant_of(number_of(milliseconds)):%Y-%m-%d %H:%M:%S} UTC"
