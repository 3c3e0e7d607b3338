"""Where answers are printed: on a terminal or into a pipe."""

from rich.console import Console

_WIDTH_OF_A_PIPE = 10_000


def answers() -> Console:
    """Stdout, as wide as the terminal; a pipe gets lines that are not broken, and no colour."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH_OF_A_PIPE)
