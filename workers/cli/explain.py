"""One account in words: what is held, what comes next and why then, and who is at it."""

from dataclasses import dataclass
from typing import Any

from ...tasks.tokens.errors import SealError
from ...tasks.tokens.record import TokenRecord, instant_of
from ...tasks.tokens.store import TokenStore, number_of, text_of

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """What the store knows of one account; instants in milliseconds since 1970."""

    account_id: str
    now_ms: int
    due_score: float | None  # below zero: in the lane of what was asked for; None: not enrolled
    covered_until_ms: float | None
    is_forgotten: bool
    record: TokenRecord | None
    fault: str  # why the record, if there is one, cannot be opened
    claim: str  # "generation former-score holder", or empty
    state: dict[str, str]
    runs: str  # that wait for it, or empty
    pause: str  # why nobody calls now, or empty

    @property
    def condition(self) -> str:
        """`fresh`, `stale`, `expired`, `never exchanged`, `quarantined` or `not enrolled`.

        Of a token that cannot be opened here it tells what the indexes say.
        """
        if self.due_score is None:
            return "not enrolled"
        if "quarantined_at" in self.state:
            return "quarantined"
        if self.record:
            return "stale" if self.record.renew_ms <= self.now_ms else "fresh"
        until = self.covered_until_ms or -1
        if until < 0:
            return "never exchanged"
        if not self.fault or until <= self.now_ms:
            return "expired"
        is_tried = self.claim or "attempts" in self.state or 0 <= self.due_score <= self.now_ms
        return "stale" if is_tried else "fresh"

    def sentences(self) -> list[str]:
        """The account in words, a line each."""
        if self.due_score is None:
            return [self._why_not_enrolled()]
        name = self.state.get("name")
        lines = [f"{self.account_id}{f' ({name})' if name else ''} is {self.condition}."]
        lines += [self._token(), self._next_attempt(abs(self.due_score))]
        if self.runs:
            lines.append(f"Runs that wait for it: {self.runs}.")
        if self.pause:
            lines.append(f"Nobody calls Dintero at the moment: {self.pause}.")
        return [*lines, self._history()]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; instants in ISO 8601."""
        record = self.record
        return {
            "account_id": self.account_id,
            "condition": self.condition,
            "generation": record and record.generation,
            "expires_at": record and record.expires_at.isoformat(),
            "next_attempt_at": self.due_score and instant_of(abs(self.due_score)).isoformat(),
            "failures_in_a_row": number_of(self.state.get("attempts")),
            "sentences": self.sentences(),
        }

    def _why_not_enrolled(self) -> str:
        if self.is_forgotten:
            return (
                f"{self.account_id} is not enrolled: it was forgotten on purpose, and stays so "
                "until it is imported again."
            )
        return f"{self.account_id} is not enrolled: neither discovered nor imported."

    def _token(self) -> str:
        record = self.record
        if self.fault:
            return f"Its token cannot be opened: {self.fault}."
        if record is None and (until := self.covered_until_ms or -1) >= 0:
            return f"Its last token expired {self._when(until)}."
        if record is None:
            since = self._since(abs(self.covered_until_ms or 0))
            return f"It has had no token yet, since {since}."
        return (
            f"Its token, generation {record.generation}, was issued {self._when(record.issued_ms)} "
            f"and expires {self._when(record.expires_ms)}."
        )

    def _next_attempt(self, due_ms: float) -> str:
        if self.claim:
            holder = self.claim.split(" ", 2)[-1]
            return f"It is being exchanged by {holder}, whose lease ends {self._when(due_ms)}."
        why = self._why_then()
        if due_ms <= self.now_ms:
            since = self._since(due_ms)
            return f"Next attempt: as soon as a worker takes it; due since {since}, {why}."
        return f"Next attempt: {self._when(due_ms)}, {why}."

    def _why_then(self) -> str:
        failures, reason = number_of(self.state.get("attempts")), self._attempts()[0][1]
        if "quarantined_at" in self.state:
            since = self._since(number_of(self.state["quarantined_at"]))
            return (
                f"in quarantine since {since}, after {self.state.get('repeats', failures)} times "
                f"{reason} in a row; to ask at once: subtokens exchange --retry {self.account_id}"
            )
        if failures:
            return f"its back-off after {_times(failures)} in a row, the last one {reason}"
        if (self.due_score or 0) < 0:
            return "as it was asked for"
        if reason == "unchanged":
            return "as the last answer was the token that it had already"
        record = self.record
        if record is None and self.condition in {"fresh", "stale"}:
            return "when its token is to be renewed"
        if record is None:
            return "as its token has expired"
        share = (record.renew_ms - record.issued_ms) / (record.expires_ms - record.issued_ms)
        return f"its place at {share:.0%} of the token's lifetime, decided when it was stored"

    def _history(self) -> str:
        told = [f"{outcome} {self._when(at)}" for at, outcome in self._attempts() if outcome]
        return f"Last attempts: {'; '.join(told)}." if told else "No attempt was made yet."

    def _attempts(self) -> list[tuple[float, str]]:
        kept = [entry.partition(":") for entry in self.state.get("history", "").split()]
        return [(number_of(at), outcome) for at, _, outcome in kept] or [(0.0, "")]

    def _when(self, instant_ms: float) -> str:
        seconds = (number_of(instant_ms) - self.now_ms) / 1000
        relative = f"in {in_words(seconds)}" if seconds > 0 else f"{in_words(-seconds)} ago"
        return f"at {instant_of(instant_ms):%Y-%m-%d %H:%M:%S} UTC ({relative})"

    def _since(self, instant_ms: float) -> str:
        return self._when(instant_ms).removeprefix("at ")


async def account_facts(store: TokenStore, account_id: str) -> AccountFacts:
    """Gather what is known of an account. Raises redis.RedisError."""
    keys = store.keys
    async with store.redis.pipeline(transaction=False) as pipe:
        pipe.zscore(keys.due, account_id)
        pipe.zscore(keys.expiry, account_id)
        pipe.sismember(keys.forgotten, account_id)
        pipe.hget(keys.claims, account_id)
        pipe.hgetall(keys.state(account_id))
        pipe.hget(keys.waiting, account_id)
        pipe.hmget(keys.limiter, ["paused_until", "pause_reason"])
        pipe.hmget(keys.circuit, ["opened_at", "reason"])
        due, expiry, forgotten, claim, kept, runs, pause, circuit = await pipe.execute()
    state = {text_of(name): text_of(value) for name, value in kept.items()}
    until = number_of(expiry if expiry is not None else state.get("expires_at"), -1)
    try:
        record, fault = await store.load(account_id), ""
    except SealError as error:
        record, fault = None, str(error)
    is_paused = number_of(pause[0]) / 1e6 > await store.scripts.server_seconds()
    return AccountFacts(
        account_id,
        store.now_ms(),
        due,
        until,
        bool(forgotten),
        record,
        fault,
        text_of(claim),
        state,
        text_of(runs),
        text_of(circuit[1] if circuit[0] else pause[1] if is_paused else None),
    )


def in_words(seconds: float) -> str:
    """A duration by its two largest units: 3 h 12 min."""
    left, parts = max(0, round(seconds)), list[str]()
    for unit, size in _UNITS:
        amount, left = divmod(left, size)
        if amount or (unit == "s" and not parts):
            parts.append(f"{amount} {unit}")
    return " ".join(parts[:2])


def _times(failures: int) -> str:
    return "a failure" if failures == 1 else f"{failures} failures"
