"""Every Redis key of subtokens; nobody else spells one. docs/redis.md tells the same in words.

All keys of a partner share the hash tag {partner_id}, so that scripts work on a cluster too.
N is SUBTOKENS_NAMESPACE, P the partner id.

key                              type    TTL             meaning
N:{P}:token:<account>            string  token's expiry  sealed token record
N:{P}:state:<account>            hash    none            generation, attempts, last outcome, runs
N:{P}:due                        zset    none            account by the instant it is next due, ms;
                                                         negative: asked for by a run, since then
N:{P}:expiry                     zset    none            account by its token's expiry, ms
N:{P}:claims                     hash    none            account to "generation former-due-score"
N:{P}:generation                 string  none            highest generation given out
N:{P}:limiter                    hash    1 h             next free instant, pause, server µs
N:{P}:runs                       zset    none            unreleased run by when it must be looked at
N:{P}:run:<id>                   hash    48 h            meta and parked continuation of a run
N:{P}:run:<id>:open|done         set     48 h            the run's accounts
N:{P}:run:<id>:failed:<reason>   set     48 h            the run's accounts that failed so
N:{P}:run:<id>:reasons           set     48 h            the reasons that occur
N:{P}:tickets                    zset    none            outstanding ticket by when it lapses, ms
N:{P}:follow_up                  string  its delay       one delayed ticket is under way
N:{P}:forgotten                  set     none            ids that discovery must not enrol
N:{P}:failing                    set     none            ids whose last attempt failed
N:{P}:partner                    string  token's expiry  sealed partner token
N:{P}:partner_lock               string  seconds         who renews the partner token now
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PartnerKeys:
    """The key space of one partner."""

    namespace: str
    partner_id: str

    def _key(self, rest: str) -> str:
        return f"{self.namespace}:{{{self.partner_id}}}:{rest}"

    def token(self, account_id: str) -> str:
        """Sealed token record of an account."""
        return self._key(f"token:{account_id}")

    def state(self, account_id: str) -> str:
        """What is known of an account beside its token."""
        return self._key(f"state:{account_id}")

    def run(self, run_id: str, part: str = "") -> str:
        """A run's meta, or with `part` one of its sets of accounts."""
        return self._key(f"run:{run_id}:{part}" if part else f"run:{run_id}")

    @property
    def due(self) -> str:
        """Accounts by when they are next due."""
        return self._key("due")

    @property
    def expiry(self) -> str:
        """Accounts by the expiry of their last token."""
        return self._key("expiry")

    @property
    def claims(self) -> str:
        """Accounts being exchanged now, by whom."""
        return self._key("claims")

    @property
    def limiter(self) -> str:
        """The one line of permits, and the pause."""
        return self._key("limiter")

    @property
    def runs(self) -> str:
        """Runs that are not yet released."""
        return self._key("runs")

    @property
    def failing(self) -> str:
        """Accounts whose last attempt failed."""
        return self._key("failing")

    @property
    def partner(self) -> str:
        """The sealed partner token."""
        return self._key("partner")

    @property
    def for_scripts(self) -> tuple[str, ...]:
        """The KEYS of every script, in the order in which lua/prelude.lua names them."""
        return (
            self.due,
            self.expiry,
            self.claims,
            self._key("generation"),
            self.limiter,
            self.runs,
            self._key("tickets"),
            self._key("follow_up"),
            self._key("forgotten"),
            self.failing,
            self.partner,
            self._key("partner_lock"),
            self.token(""),
            self.state(""),
            self.run(""),
        )
