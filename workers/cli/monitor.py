"""`subtokens monitor`: metrics, health and a status page for operators."""

import asyncio
import signal
import threading
from typing import Annotated

import typer

from ...config.errors import InputError
from .listening import cannot_listen


def monitor(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 lets the system choose")] = 9112,
    host: Annotated[str, typer.Option(help="0.0.0.0: for other machines, too")] = "127.0.0.1",
) -> None:
    """Serve a status page, health and metrics for Prometheus.

    The page is at /, the others at /healthz, /readyz and /metrics. Stop it with Ctrl-C.

    Example: subtokens monitor --port 9112
    """
    try:
        from ..monitor import Fleets, serving
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        raise InputError("this needs an extra: pip install 'subtokens[cli,metrics]'") from None
    from ...config.logs import configure_logging
    from ...tasks.runtime import runtime
    from ..fleets import chosen_fleets

    configure_logging(runtime().settings)
    fleets, stopped = Fleets(chosen_fleets()), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())

    async def serve() -> None:
        async with serving(fleets, host, port) as url:
            typer.echo(f"the status page is {url}/, and for Prometheus: {url}/metrics")
            await asyncio.to_thread(stopped.wait)

    try:
        runtime().call(serve())
    except OSError as error:
        raise cannot_listen(host, port, error) from None
