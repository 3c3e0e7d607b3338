"""Enrolling the accounts of a file, a thousand by one command, with a progress bar."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ...tasks.runtime import runtime
from ...tasks.tokens.store import TokenStore

_IN_A_SLICE = 1_000


@dataclass(slots=True)
class Imported:
    """What an import did, or would do."""

    new: int = 0
    enrolled_already: int = 0
    of_forgotten: int = 0  # of the new ones: they had been forgotten and are back


async def _count_new(store: TokenStore, pairs: list[tuple[str, str]]) -> int:
    """How many accounts an import of these would enrol."""
    ids = [account_id for account_id, _ in pairs]
    return (await store.redis.zmscore(store.keys.due, ids)).count(None)


async def _forgotten_ids(store: TokenStore) -> set[str]:
    members = cast("set[bytes]", await store.redis.smembers(store.keys.forgotten))
    return {account_id.decode() for account_id in members}


def enrol(store: TokenStore, names: Mapping[str, str], *, dry_run: bool) -> Imported:
    """Enrol accounts, or only see what that would do. Raises redis.RedisError."""
    call = runtime().call
    done = Imported(of_forgotten=len(call(_forgotten_ids(store)) & names.keys()))
    pairs, console = list(names.items()), Console(stderr=True)
    columns = (TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("importing", total=len(pairs))
        for start in range(0, len(pairs), _IN_A_SLICE):
            part = pairs[start : start + _IN_A_SLICE]
            new = call(_count_new(store, part) if dry_run else store.enrol(part, "imported"))
            done.new += new
            done.enrolled_already += len(part) - new
            progress.advance(bar, len(part))
    return done
