"""`subtokens up`: everything on one machine, with real credentials."""

from pathlib import Path
from typing import Annotated

import typer


def up(
    data_folder: Annotated[
        Path, typer.Option(help="keeps Redis's data and the secrets that were made")
    ] = Path(".subtokens"),
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="workers for exchanges, of two processes each")
    ] = 1,
    monitor_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="of the status page on loopback; 0: none")
    ] = 9112,
) -> None:
    """Run Redis, workers, beat and monitor here until Ctrl-C.

    What dies is started again. Redis is not started where SUBTOKENS_STORE_URL and
    SUBTOKENS_BROKER_URL name others.

    Example: subtokens up --workers 4
    """
    from ..up.run import run_up

    raise typer.Exit(run_up(data_folder, workers, monitor_port))
