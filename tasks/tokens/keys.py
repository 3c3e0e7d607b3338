"""Every Redis key of subtokens; nobody else spells one. docs/redis.md tells what each holds.

All keys of a partner share the hash tag {partner_id}, so that scripts work on a cluster too.
"""


class PartnerKeys:
    """The key space of one partner."""

    def __init__(self, namespace: str, partner_id: str) -> None:
        self.partner_id = partner_id
        self._prefix = f"{namespace}:{{{partner_id}}}:"
        # By key; the KEYS of every script, in the order in which lua/prelude.lua names them.
        self.types: dict[str, str] = {}
        self.due = self._of_type("zset", "due")
        self.expiry = self._of_type("zset", "expiry")
        self.claims = self._of_type("hash", "claims")
        self.generation = self._of_type("string", "generation")
        self.limiter = self._of_type("hash", "limiter")
        self.runs = self._of_type("zset", "runs")
        self.renew_tickets = self._of_type("zset", "renew_tickets")
        self.exchange_tickets = self._of_type("zset", "exchange_tickets")
        self.follow_up = self._of_type("string", "follow_up")
        self.forgotten = self._of_type("set", "forgotten")
        self.absent = self._of_type("hash", "absent")
        self.failing = self._of_type("set", "failing")
        self.quarantine = self._of_type("zset", "quarantine")
        self.fleet = self._of_type("hash", "fleet")
        self.rejections = self._of_type("stream", "rejections")
        self.events = self._of_type("stream", "events")
        self.waves = self._of_type("zset", "waves")
        self.partner = self._of_type("string", "partner")
        self.partner_lock = self._of_type("string", "partner_lock")
        self.workers = self._of_type("hash", "workers")
        self.circuit = self._of_type("hash", "circuit")
        self.epoch = self._of_type("string", "epoch")
        self.metrics = self._of_type("hash", "metrics")
        self.history = self._of_type("stream", "history")
        self.beats = self._of_type("hash", "beats")
        self.waiting = self._of_type("hash", "waiting")
        self.for_scripts = (*self.types, self.token(""), self.state(""), self.run(""))

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

    def _of_type(self, kind: str, name: str) -> str:
        key = self._prefix + name
        self.types[key] = kind
        return key
