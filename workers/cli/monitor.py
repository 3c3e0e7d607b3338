"""`subtokens monitor`: metrics, health and a status page for operators."""

import signal
import threading
from typing import Annotated

import typer

from ...config.errors import InputError


def monitor(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 lets the system choose")] = 9112,
    host: Annotated[str, typer.Option(help="0.0.0.0: for other machines, too")] = "127.0.0.1",
) -> None:
    """Serve a status page, health and metrics for Prometheus.

    The page is at /, the others at /healthz, /readyz and /metrics. Stop it with Ctrl-C.

    Example: subtokens monitor --port 9112
    """
    try:
        from ..monitor import Fleets, Monitor
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        raise InputError("this needs an extra: pip install 'subtokens[cli,metrics]'") from None
    from ...config.logs import configure_logging
    from ...tasks.runtime import runtime

    configure_logging(runtime().settings)
    process, stopped = runtime(), threading.Event()
    default = process.settings.partner_id
    partner_ids = (default,) if default else process.settings.partner_ids
    fleets = Fleets(process, [process.fleet(partner_id) for partner_id in partner_ids])
    try:
        served = Monitor(fleets, host, port)
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(
            f"cannot listen at {host}, port {port}: {why}; "
            "name another by --port (subtokens up has a monitor of its own)"
        ) from None
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with served:
        typer.echo(f"the status page is {served.url}/, and for Prometheus: {served.url}/metrics")
        stopped.wait()
