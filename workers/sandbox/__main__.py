"""`python -m subtokens.workers.sandbox`: serve until stopped; prints one line of JSON at start."""

import argparse
import json
import sys

from .options import SandboxOptions
from .server import run


def main() -> None:
    """Take any of the options as `--name value` (`--latency-seconds 0.05`)."""
    parser = argparse.ArgumentParser(prog="subtokens.workers.sandbox")
    for name, field in SandboxOptions.model_fields.items():
        parser.add_argument(f"--{name.replace('_', '-')}", default=field.default)
    options = SandboxOptions.model_validate_strings(
        {name: str(value) for name, value in vars(parser.parse_args()).items()}
    )
    run(options, _announce)


def _announce(base_url: str) -> None:
    sys.stdout.write(json.dumps({"base_url": base_url}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
