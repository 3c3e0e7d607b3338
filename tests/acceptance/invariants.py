"""What holds for a fleet whatever happens; one checker for the tests and for the soak."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from subtokens.tasks.tokens.sealing import _HEADER

from .conftest import DEADLINE_SECONDS, Site, Upstream

LOOKS_EVERY_SECONDS = 0.05
OVERDUE_SECONDS = 3.0  # due for longer than a sweep and a stint take: nobody works on it
EARLY_SECONDS = 0.5  # by which a renewal may seem early, as the sandbox's clock sees it
IN_FLIGHT_SECONDS = 1.0  # from the sandbox's answer until it is kept, at the most
ENROLLED_SECONDS = 2.0  # what was enrolled before survives whatever comes


@dataclass(frozen=True, slots=True)
class Seen:
    """The fleet at one instant, by accounts."""

    due: dict[str, float]  # the instant in seconds; as it stands there once, or not at all
    indexed: Counter[str]  # how often it stands in the indexes by expiry and of the quarantine
    quarantined: int
    generations: dict[str, int]  # of the tokens that are there, so that they are alive
    claimed_at: dict[str, float]  # by the generation of the claim, seconds since 1970


@dataclass(slots=True)
class Verdict:
    """How a fleet came through one fault."""

    seconds: float | None = None  # from the fault's end until all was well; None: it never was
    lost: set[str] = field(default_factory=set)
    rewound: list[str] = field(default_factory=list)  # an older token over a newer one
    extra: Counter[str] = field(default_factory=Counter)  # exchanges that nothing was due for
    needless: set[str] = field(default_factory=set)  # accounts with such, that were not in flight
    complaints: list[str] = field(default_factory=list)

    @property
    def is_breach(self) -> bool:
        """Whether something happened that never may."""
        return bool(self.lost or self.rewound or self.needless or self.complaints)

    def told(self) -> str:
        """It in a line."""
        seconds = "never well" if self.seconds is None else f"well after {self.seconds:.1f} s"
        most = max(self.extra.values(), default=0)
        return (
            f"{seconds}, {len(self.lost)} lost, {len(self.rewound)} older over newer, "
            f"{self.extra.total()} extra exchanges, {most} of one account at most, "
            f"{len(self.needless)} of none in flight; "
            + "; ".join([*self.complaints, *self.rewound[:3]])
        )


class Watcher:
    """Looks at the store all the time by a connection of its own; a context, in a thread."""

    def __init__(self, site: Site, accounts: Sequence[str]) -> None:
        self._site, self._accounts = site, accounts
        self._redis = Redis.from_url(
            site.server.url(1),
            retry=Retry(NoBackoff(), 0),
            socket_timeout=1,
            socket_connect_timeout=1,
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_all_the_time)
        self.newest: dict[str, int] = {}
        self._first_seen: dict[str, float] = {}
        self.rewound: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(DEADLINE_SECONDS)
        self._redis.close()

    def enrolled_for(self, seconds: float) -> set[str]:
        """The accounts that were first seen in the due set so long ago."""
        before = time.time() - seconds
        return {account for account, at in list(self._first_seen.items()) if at <= before}

    def look(self) -> Seen | None:
        """The fleet now; None where the store does not tell."""
        keys = self._site.keys
        try:
            with self._redis.pipeline() as pipe:
                pipe.zrange(keys.due, 0, -1, withscores=True)
                pipe.zrange(keys.expiry, 0, -1)
                pipe.zrange(keys.quarantine, 0, -1)
                pipe.hgetall(keys.claims)
                for account in self._accounts:
                    pipe.getrange(keys.token(account), 0, _HEADER.size - 1)
                due, covered, quarantined, claims, *headers = pipe.execute()
        except RedisError:
            return None
        found = zip(self._accounts, headers, strict=True)
        return Seen(
            {account.decode(): abs(score) / 1000 for account, score in due},
            Counter(account.decode() for account in [*covered, *quarantined]),
            len(quarantined),
            {account: _HEADER.unpack(header)[2] for account, header in found if header},
            {account.decode(): int(claim.split()[0]) / 1e6 for account, claim in claims.items()},
        )

    def _look_all_the_time(self) -> None:
        while not self._ended.wait(LOOKS_EVERY_SECONDS):
            if seen := self.look():
                now = time.time()
                for account in seen.due:
                    self._first_seen.setdefault(account, now)
                for account, generation in seen.generations.items():
                    if generation < self.newest.get(account, 0):
                        self.rewound.append(f"{account}: {self.newest[account]}, {generation}")
                    self.newest[account] = max(generation, self.newest.get(account, 0))


class Exchanges:
    """Counts, by what the sandbox served, the exchanges that came before anything was due."""

    def __init__(self, upstream: Upstream, opens_seconds: float) -> None:
        self._upstream, self._opens_seconds = upstream, opens_seconds
        self._last_call, self._served_at = 0, dict[str, float]()
        self._troubled: list[tuple[float, float]] = []  # when answers may have been lost

    def extra(self, since: float = 0.0) -> tuple[Counter[str], set[str]]:
        """Those of the time from `since` until now, by account; and who of them has no excuse.

        It is one that the exchange before was under way in this time, or in one like it that was
        asked about earlier: then what it brought may have been lost, and is asked for later.
        """
        self._troubled.append((since - IN_FLIGHT_SECONDS, self._upstream.now()))
        found, needless = Counter[str](), set[str]()
        for call in self._upstream.calls(self._last_call):
            self._last_call = call.number
            if call.kind == "exchange" and call.status == 200:
                before = self._served_at.get(call.account, float("-inf"))
                if call.seconds - before < self._opens_seconds - EARLY_SECONDS:
                    found[call.account] += 1
                    if not any(first <= before <= last for first, last in self._troubled):
                        needless.add(call.account)
                self._served_at[call.account] = call.seconds
        return found, needless


class Invariants:
    """Judges how the fleet comes through one fault after the other.

    `is_staffed` says whether all processes are there that nobody ended.
    """

    def __init__(
        self, site: Site, upstream: Upstream, watcher: Watcher, is_staffed: Callable[[], str]
    ) -> None:
        options: Any = upstream._options
        opens, _ = site.renewal_window(options.lifetime_seconds)
        self._watcher, self._upstream = watcher, upstream
        self._exchanges, self._is_staffed = Exchanges(upstream, opens), is_staffed

    def missing(self, expected: set[str], since: float = 0.0) -> str:
        """What is not as it should be; empty when all is well and work goes on."""
        seen = self._watcher.look()
        if seen is None:
            return "the store does not answer"
        now = time.time()
        overdue = [account for account, at in seen.due.items() if at < now - OVERDUE_SECONDS]
        wrongly = [account for account in expected if seen.indexed[account] != 1]
        stale = [account for account, at in seen.claimed_at.items() if at < since]
        findings = {
            "not in the due set": expected - seen.due.keys(),
            "not once in the indexes": wrongly,
            "without a token": expected - seen.generations.keys(),
            "overdue": overdue,
            "held by claims from before": stale,
            "in quarantine": range(seen.quarantined),
        }
        told = [f"{len(accounts)} {what}" for what, accounts in findings.items() if accounts]
        return "; ".join([*told, *filter(None, [self._is_staffed()])])

    def through(
        self, fault: Callable[[], object], within: float, *, loses_data: bool = False
    ) -> Verdict:
        """Let a fault come and go, and see how the fleet recovers with nobody's hand.

        Where the store loses its data, every account is exchanged once more.
        """
        verdict = Verdict()
        expected = self._watcher.enrolled_for(ENROLLED_SECONDS)
        rewound = len(self._watcher.rewound)
        self._exchanges.extra(float("inf"))  # what came until now is nobody's fault
        began_at = self._upstream.now()
        fault()
        ended_at, last = time.time(), self._upstream.last()
        found = "not looked at"
        while verdict.seconds is None and time.time() < ended_at + within:
            found = self.missing(expected, ended_at)
            if not found and self._upstream.last() == last:
                found = "nobody called since"
            if not found:
                verdict.seconds = time.time() - ended_at
            else:
                time.sleep(LOOKS_EVERY_SECONDS)
        if verdict.seconds is None:
            verdict.complaints.append(f"not well after {within:g} s: {found}")
        seen = self._watcher.look()
        verdict.lost = expected - seen.due.keys() if seen else expected
        verdict.rewound = self._watcher.rewound[rewound:]
        verdict.extra, needless = self._exchanges.extra(began_at)
        verdict.needless = set() if loses_data else needless
        return verdict
