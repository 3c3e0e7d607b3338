"""Every Redis key of subtokens; nobody else spells one. docs/redis.md tells what each holds.

All keys of a partner share the hash tag {partner_id}, so that scripts work on a cluster too.
"""

_TYPES = {  # of the KEYS of every script, in the order in which lua/prelude.lua names them
    "due": "zset",
    "expiry": "zset",
    "claims": "hash",
    "generation": "string",
    "limiter": "hash",
    "runs": "zset",
    "renew_tickets": "zset",
    "exchange_tickets": "zset",
    "follow_up": "string",
    "forgotten": "set",
    "absent": "hash",
    "failing": "set",
    "quarantine": "zset",
    "fleet": "hash",
    "rejections": "stream",
    "events": "stream",
    "waves": "zset",
    "partner": "string",
    "partner_lock": "string",
    "workers": "hash",
    "circuit": "hash",
    "epoch": "string",
    "metrics": "hash",
    "history": "stream",
    "beats": "hash",
}


class PartnerKeys:
    """The key space of one partner."""

    def __init__(self, namespace: str, partner_id: str) -> None:
        self.partner_id = partner_id
        self._prefix = f"{namespace}:{{{partner_id}}}:"
        named = {name: self._prefix + name for name in _TYPES}
        self.due = named["due"]
        self.expiry = named["expiry"]
        self.claims = named["claims"]
        self.limiter = named["limiter"]
        self.runs = named["runs"]
        self.forgotten = named["forgotten"]
        self.failing = named["failing"]
        self.quarantine = named["quarantine"]
        self.fleet = named["fleet"]
        self.rejections = named["rejections"]
        self.events = named["events"]
        self.partner = named["partner"]
        self.workers = named["workers"]
        self.circuit = named["circuit"]
        self.metrics = named["metrics"]
        self.history = named["history"]
        self.beats = named["beats"]
        self.types = {named[name]: kind for name, kind in _TYPES.items()}
        self.for_scripts = (*named.values(), self.token(""), self.state(""), self.run(""))

    def token(self, account_id: str) -> str:
        """Sealed token record of an account."""
        return f"{self._prefix}token:{account_id}"

    def state(self, account_id: str) -> str:
        """What is known of an account beside its token."""
        return f"{self._prefix}state:{account_id}"

    def selection(self, name: str) -> str:
        """A set of accounts that somebody stored under a name."""
        return f"{self._prefix}selection:{name}"

    def run(self, run_id: str, part: str = "") -> str:
        """A run's meta, or with `part` one of its sets of accounts."""
        return f"{self._prefix}run:{run_id}:{part}" if part else f"{self._prefix}run:{run_id}"
