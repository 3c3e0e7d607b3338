"""The command `subtokens`. Needs the extra `cli`: pip install 'subtokens[cli]'."""

import sys

from ..exit_codes import BAD_INPUT, INTERRUPTED


def main() -> None:
    """Run the command line; the entry point of the package."""
    try:
        from .commands import run

        run()
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        print("the command line needs an extra: pip install 'subtokens[cli]'", file=sys.stderr)  # noqa: T201
        raise SystemExit(BAD_INPUT) from None
    except KeyboardInterrupt:  # also while it is loaded, or tells what went wrong
        raise SystemExit(INTERRUPTED) from None
