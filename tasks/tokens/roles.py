"""Who may do what in Redis: the rules of `ACL SETUSER` for each role, and no more than it needs.

On Redis 7 and Valkey a key is opened for reading (%R) or writing (%W) alone, and a script's keys
by a selector; on 6.2 every command of a role reaches every key of it: see WEAKER.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from .keys import PartnerKeys

Role = Literal["broker", "worker", "beat", "reader", "operator"]
ROLES: tuple[Role, ...] = get_args(Role)

# No such password's hash exists, so that Redis refuses the line as long as it stands there.
PASSWORD = "#SHA256-OF-ITS-PASSWORD"

# What the scripts in lua/ call, as Redis checks each call in a script too; a test compares.
_IN_SCRIPTS = (
    "del exists get hdel hexists hget hgetall hincrby hmget hset hsetnx llen lpop pexpire pttl "
    "rpush sadd scard set sismember smembers smismember srem time xadd xdel xrange zadd zcard "
    "zcount zmscore zrange zrem zremrangebyscore zscore"
)
_SCRIPTING = "evalsha script|load"
_LOOKING = (
    "exists get hget hgetall hlen hmget llen mget pttl scard sismember smembers sscan time ttl "
    "type xlen xrange xread zcard zcount zmscore zrange zscan zscore"
)
_SENDING = "exec llen lpush multi sadd"
_CARRYING = (
    "brpop del discard evalsha exec exists expire get hdel hget hset llen lpush lrange mget multi "
    "pexpire psubscribe pttl publish punsubscribe rpop rpush sadd script|exists script|load set "
    "setex smembers srem subscribe time unsubscribe unwatch watch zadd zcount zrange "
    "zrangebyscore zrem zrevrangebyscore"
)
_CONNECTING = "auth hello ping select"
_WORKING = f"{_IN_SCRIPTS} {_SCRIPTING} {_LOOKING} expire rename"

WEAKER: dict[Role, str] = {
    "reader": "it may put a stream in place of a missing token or state, until the next exchange",
    "operator": "it may read, set and delete the partner's sealed token and its lock, as their "
    "keys are handed to each script",
}


@dataclass(frozen=True, slots=True)
class Scope:
    """What the roles are about: the key space, the partners, and the broker's queues."""

    namespace: str
    partner_ids: Sequence[str]
    queues: Sequence[str]  # ours
    others_queues: Sequence[str] = ("celery",)  # those of the apps whose canvases hold our tasks
    database: int = 0  # the broker's; pub/sub has no databases, so that kombu spells it
    is_cluster: bool = False  # of the store: its clients ask for the nodes and the commands


def user_name(role: Role, scope: Scope) -> str:
    """The name of the user, such as `subtokens-worker`; readers have one for each partner."""
    suffix = f"-{scope.partner_ids[0]}" if role == "reader" else ""
    return f"{scope.namespace}-{role}{suffix}"


def rules(role: Role, scope: Scope, *, for_6_2: bool = False) -> list[str]:
    """The rules of one role, each as ACL SETUSER takes it; a reader's partner stands alone."""
    spaces = [PartnerKeys(scope.namespace, partner_id) for partner_id in scope.partner_ids]
    of_role = {
        "broker": lambda: _broker(scope),
        "worker": lambda: [f"~{_every(keys)}" for keys in spaces] + _may(_WORKING),
        "beat": lambda: _beat(scope, for_6_2=for_6_2),
        "reader": lambda: _reader(spaces, for_6_2=for_6_2),
        "operator": lambda: _operator(spaces, for_6_2=for_6_2),
    }[role]()
    connecting = _CONNECTING + (" cluster|slots command" if scope.is_cluster else "")
    return ["reset", "on", PASSWORD, "resetchannels", *of_role, *_may(connecting)]


def _may(commands: str) -> list[str]:
    return [f"+{command}" for command in sorted(set(commands.split()))]


def _every(keys: PartnerKeys) -> str:
    return keys.due.removesuffix("due") + "*"


def _queue(name: str) -> list[str]:
    return [name, f"{name}??[369]"]  # kombu has a list for each of four priorities


def _broker(scope: Scope) -> list[str]:
    queues = [key for name in (*scope.queues, *scope.others_queues) for key in _queue(name)]
    results = ["celery-task-meta-*", "celery-taskset-meta-*"]
    control = ["_kombu.binding*", "*.celery.pidbox", "*.celery.pidbox??[369]", "celeryev.*"]
    fanout = f"/{scope.database}."
    # A pattern to subscribe to must be one of these to the letter.
    channels = [f"{fanout}celery.pidbox", f"{fanout}celeryev/*", f"{fanout}celeryev/worker.*"]
    return [
        *(f"~{key}" for key in [*queues, *results, *control, f"{scope.namespace}.unacked*"]),
        *(f"&{channel}" for channel in [*channels, *results]),
        *_may(_CARRYING),
    ]


def _beat(scope: Scope, *, for_6_2: bool) -> list[str]:
    keys = [key for name in scope.queues for key in (*_queue(name), f"_kombu.binding*.{name}")]
    sign = "~" if for_6_2 else "%W~"
    return [*(f"{sign}{key}" for key in keys), *_may(_SENDING)]


def _reader(spaces: Sequence[PartnerKeys], *, for_6_2: bool) -> list[str]:
    read, write = ("~", "~") if for_6_2 else ("%R~", "%W~")
    seen = [key for k in spaces for key in (k.token("*"), k.due, k.expiry, k.state("*"))]
    keys = [f"{read}{key}" for key in seen] + [f"{write}{k.rejections}" for k in spaces]
    return keys + _may("get mget zscore hmget xadd")


def _operator(spaces: Sequence[PartnerKeys], *, for_6_2: bool) -> list[str]:
    handed = [key for k in spaces for key in k.for_scripts]
    secret = tuple(key for k in spaces for key in (k.partner, k.token("")))  # and its lock
    by_id = [key for k in spaces for key in (k.state("*"), k.run("*"), k.selection("*"))]
    open_to_all = [key for key in handed if for_6_2 or not key.startswith(secret)]
    keys = [*open_to_all, *by_id]
    commands = f"{_IN_SCRIPTS} {_LOOKING} script|load"
    if for_6_2:
        return [f"~{key}" for key in keys] + _may(f"{commands} evalsha")
    selector = " ".join([*(f"~{key}" for key in handed), "+evalsha"])
    return [*(f"~{key}" for key in keys), *_may(commands), f"({selector})"]
