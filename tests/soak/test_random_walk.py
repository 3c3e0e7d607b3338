"""A random walk over all faults, one after the other and two at once, for as long as you like.

    make soak SOAK_FAULTS=200 SOAK_SEED=1

The seed repeats which faults come, and in what order; when within a call they come, it cannot.
"""

import os
import random
import sys
import threading
import time
from collections import defaultdict
from statistics import median

import pytest

from ..acceptance.conftest import eventually
from ..acceptance.faults import FAULTS, LOSS, RESTART, Deployment
from ..acceptance.invariants import Verdict

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]
COUNT = int(os.environ.get("SOAK_FAULTS", "200"))
SEED = int(os.environ.get("SOAK_SEED") or time.time())
PAIRS = "two of these at once"
PAIRED_SHARE = 0.2
WITHIN_SECONDS = 120.0


def tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def table(verdicts: dict[str, list[Verdict]]) -> str:
    """One row for each fault."""
    head = ["tried", "lost", "older over newer", "extra", "most of one", "median s", "worst s"]
    rows = [["fault", *head]]
    for fault in [*FAULTS, PAIRS]:
        if mine := verdicts[fault]:
            seconds = [one.seconds if one.seconds is not None else float("inf") for one in mine]
            rows.append(
                [
                    fault,
                    str(len(mine)),
                    str(sum(len(one.lost) for one in mine)),
                    str(sum(len(one.rewound) for one in mine)),
                    str(sum(one.extra.total() for one in mine)),
                    str(max(max(one.extra.values(), default=0) for one in mine)),
                    f"{median(seconds):.1f}",
                    f"{max(seconds):.1f}",
                ]
            )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    )


def drawn(chance: random.Random) -> list[str]:
    """One fault, or two that can be at once."""
    faults = chance.sample(list(FAULTS), 2 if chance.random() < PAIRED_SHARE else 1)
    return drawn(chance) if {RESTART, LOSS} == set(faults) else faults


def both(deployment: Deployment, faults: list[str]) -> None:
    """Let faults come at once."""
    failed: list[BaseException] = []
    deployment.must_find_claim = len(faults) == 1

    def come(fault: str) -> None:
        try:
            FAULTS[fault](deployment)
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - raised below
            failed.append(error)

    threads = [threading.Thread(target=come, args=(fault,)) for fault in faults]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def test_no_walk_of_faults_costs_an_account(
    redis_server: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tell(f"\nSOAK_SEED={SEED} SOAK_FAULTS={COUNT}")
    chance = random.Random(SEED)
    verdicts: dict[str, list[Verdict]] = defaultdict(list)
    complaints: list[str] = []
    with Deployment(tmp_path_factory.mktemp("soak") / "here", 200, 30) as deployment:
        try:
            for number in range(1, COUNT + 1):
                faults = drawn(chance)
                began_at = time.time()
                verdict = deployment.invariants.through(
                    lambda faults=faults: both(deployment, faults),
                    WITHIN_SECONDS,
                    loses_data=LOSS in faults,
                )
                verdicts[PAIRS if len(faults) > 1 else faults[0]].append(verdict)
                told = f"{number} at {began_at:.1f}: {' + '.join(faults)}: {verdict.told()}"
                tell(told)
                if verdict.is_breach:
                    complaints.append(told)
                    deployment.replace_dead()
                time.sleep(chance.uniform(0.0, 2.0))  # the next comes at any moment
        finally:  # Ctrl-C ends a walk, and not what it has found
            tell(table(verdicts))
        last = deployment.upstream.last()
        eventually(lambda: deployment.upstream.has_exchanged(deployment.accounts, last), within=60)
    assert not complaints, "\n".join(complaints)
