"""Where answers are printed: on a terminal or into a pipe."""

from rich.console import Console
from rich.text import Text

_WIDTH_OF_A_PIPE = 10_000


def answers(*, stderr: bool = False) -> Console:
    """As wide as the terminal; a pipe gets lines that are not broken, and no colour."""
    console = Console(stderr=stderr)
    if console.is_terminal:
        return console
    return Console(stderr=stderr, width=_WIDTH_OF_A_PIPE)


def say(text: str, *, stderr: bool = False) -> None:
    """Print sentences; a terminal's lines are broken between words."""
    answers(stderr=stderr).print(Text(text))
