"""Every Redis key of subtokens; nobody else spells one. docs/redis.md has the table.

All keys of a partner share the hash tag {partner_id}, so that scripts work on a cluster too.
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
    def quarantine(self) -> str:
        """Accounts given up for now, by until when they are covered, instead of in `expiry`."""
        return self._key("quarantine")

    @property
    def forgotten(self) -> str:
        """Accounts that discovery must not enrol."""
        return self._key("forgotten")

    @property
    def absent(self) -> str:
        """Accounts that a complete listing lacked, and since when."""
        return self._key("absent")

    @property
    def fleet(self) -> str:
        """Totals of the fleet, and when it was last swept and discovered."""
        return self._key("fleet")

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
            self._key("renew_tickets"),
            self._key("exchange_tickets"),
            self._key("follow_up"),
            self.forgotten,
            self.absent,
            self.failing,
            self.quarantine,
            self.fleet,
            self.partner,
            self._key("partner_lock"),
            self.token(""),
            self.state(""),
            self.run(""),
        )
