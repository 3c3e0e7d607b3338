"""How long it takes to import subtokens, and to be told what its command line can do.

python benchmarks/start_up.py [--rounds 10]
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from report import Report

BIN = Path(sys.executable).parent
COMMANDS: dict[str, Sequence[str]] = {
    "python -c pass": (sys.executable, "-c", "pass"),
    "import subtokens": (sys.executable, "-c", "import subtokens"),
    "import redis": (sys.executable, "-c", "import redis"),
    "subtokens --help": (str(BIN / "subtokens"), "--help"),
    "celery --help": (str(BIN / "celery"), "--help"),
}
BESIDE = {"import subtokens": "import redis", "subtokens --help": "celery --help"}


def measure(command: Sequence[str]) -> float:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SUBTOKENS_")}
    started_at = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - started_at) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    for command in COMMANDS.values():
        measure(command)  # bytecode is written, files are in memory
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            taken[name].append(measure(command))
    rows = []
    for name, times in taken.items():
        other = BESIDE.get(name)
        ratios = [a / b for a, b in zip(times, taken[other], strict=True)] if other else []
        rows.append([name, median(times), other or "", median(ratios) if ratios else None])
    report = Report("start_up")
    report.table("whole processes", ["", "ms", "beside", "ratio"], rows)


if __name__ == "__main__":
    main()
