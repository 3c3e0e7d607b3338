"""`subtokens status`: how the fleet stands, and whether the coming day will fit."""

from typing import Annotated

import typer

from ...config.errors import InputError
from .options import AsJson


def status(
    as_json: AsJson = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="look again and again, until Ctrl-C")
    ] = False,
    every: Annotated[
        float, typer.Option(min=0.1, max=3600, help="seconds between the looks of --watch")
    ] = 2.0,
    forecast: Annotated[
        bool,
        typer.Option(
            "--forecast", help="the coming day's calls an hour; exit code 1 if they do not fit"
        ),
    ] = False,
    accounts: Annotated[int | None, typer.Option(min=0, help="forecast for so many")] = None,
    rate: Annotated[float | None, typer.Option(min=0.01, help="and this rate limit")] = None,
    lifetime: Annotated[float | None, typer.Option(min=1, help="and this, in seconds")] = None,
) -> None:
    """Tell how the fleet stands, and what the day will need.

    On a terminal --watch redraws in place; with --json it prints a line at each look.
    Exit code 1 if a forecast does not fit.

    Example: subtokens status --watch

    Example: subtokens status --forecast --accounts 200000 --rate 30
    """
    from . import status_report

    if forecast or (accounts, rate, lifetime) != (None, None, None):
        if watch:
            raise InputError("--watch looks at what is, a forecast at what will be: one of them")
        coming = status_report.forecast(accounts, rate, lifetime, as_json=as_json)
        raise typer.Exit(0 if coming.fits else 1)
    if watch:
        status_report.watch(every, as_json=as_json)
    else:
        status_report.once(as_json=as_json)
