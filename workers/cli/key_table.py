"""What `subtokens keys status` shows."""

from rich.table import Column, Table

from ...tasks.tokens.key_use import ignorant_of
from .key_status import KeyStatus
from .terminal import answers, say


def show(found: KeyStatus) -> None:
    """Print the keys of a partner, who holds them, and what to make of it."""
    table = Table(
        Column("key", no_wrap=True),
        "",
        "records",
        "the last expires (UTC)",
        "not known to",
        box=None,
    )
    table.title = f"partner {found.partner_id}"
    for key_id in found.all_ids:
        last = found.last_expiry(key_id)
        table.add_row(
            key_id,
            _role(found, key_id),
            f"{found.records.by_key[key_id]:,}",
            f"{last:%Y-%m-%d %H:%M:%S}" if last else "-",
            f"{len(ignorant_of(key_id, found.workers))} of {len(found.workers)}",
        )
    workers = Table("live worker", "its keys", box=None)
    for holder, key_ids in found.workers.items():
        workers.add_row(holder, ", ".join(key_ids))
    console = answers()
    console.print(table)
    if found.workers:
        console.print(workers)
    for sentence in found.sentences():
        say(sentence)


def _role(found: KeyStatus, key_id: str) -> str:
    if key_id not in found.key_ids:
        return "not held here"
    return "seals" if key_id == found.seals_now else "opens"
