"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from ...config.durations import LONGEST_TIMEOUT_SECONDS

AsJson = Annotated[bool, typer.Option("--json", help="print JSON for a script")]
OneAccount = Annotated[str, typer.Argument(help="an id such as T11200001")]
AccountFile = Annotated[
    Path | None,
    typer.Option(help="CSV with a column account_id, or one id a line; - reads stdin"),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        help="seconds until the run ends with what it has", min=0.1, max=LONGEST_TIMEOUT_SECONDS
    ),
]
