"""The table of commands, and what their errors become."""

import logging
import os
from typing import Annotated, NoReturn

import typer

from ... import __version__
from ...config.errors import InputError, SettingsError, SubtokensError
from ..exit_codes import BAD_INPUT, EXIT_CODES, FAILED, NO_REDIS
from .accounts import accounts
from .acl import acl
from .doctor import doctor
from .ensure import ensure
from .events import SHOWN_EVENTS
from .exchange import exchange
from .keys import keys
from .monitor import monitor
from .show import explain, token
from .status import status
from .try_out import demo, sandbox
from .up import up

_EPILOG = "\b\nExit codes:\n" + "\n".join(
    f"  {code:<3}  {meaning}" for code, meaning in EXIT_CODES.items()
)

# Each command loads what it works with when it runs: help and completion come at once.
cli = typer.Typer(
    name="subtokens",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
cli.add_typer(accounts, name="accounts")
cli.add_typer(keys, name="keys")


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"subtokens {__version__}")
        raise typer.Exit


@cli.callback()
def choose(
    partner: Annotated[
        str | None, typer.Option(help="which of several partners", envvar="SUBTOKENS_PARTNER_ID")
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback has told it
        bool,
        typer.Option(
            "--version",
            help="print the version",
            is_eager=True,
            callback=_tell_version,
        ),
    ] = False,
) -> None:
    """Keep one fresh access token for every sub-account of a Dintero partner.

    Example: subtokens status
    """
    if partner is not None:
        os.environ["SUBTOKENS_PARTNER_ID"] = partner


for _command in (up, exchange, ensure, status, monitor, explain, token, doctor, acl, sandbox, demo):
    cli.command()(_command)


def run() -> None:
    """Run one command; errors raised on purpose become a line on stderr and an exit code."""
    logging.getLogger().addHandler(SHOWN_EVENTS)
    try:
        cli()
    except (InputError, SettingsError) as error:
        _stop(str(error), BAD_INPUT)
    except UnicodeEncodeError:
        _stop("a word that was given is not UTF-8 text", BAD_INPUT)
    except SubtokensError as error:
        _stop(str(error), FAILED)
    except Exception as error:
        _stop_of_redis(error)
        raise


def _stop_of_redis(error: Exception) -> None:
    from celery.exceptions import OperationalError as CeleryOperationalError
    from kombu.exceptions import OperationalError
    from redis.exceptions import NoPermissionError, RedisError, ResponseError

    if isinstance(error, NoPermissionError):
        _stop(f"this user of Redis may not do that: {error}; see subtokens acl", FAILED)
    if isinstance(error, ResponseError):
        _stop(f"Redis answers: {error}; what is amiss there: subtokens doctor", FAILED)
    if isinstance(error, RedisError | OperationalError | CeleryOperationalError):
        _stop(
            f"Redis cannot be reached: {error}; check SUBTOKENS_STORE_URL and SUBTOKENS_BROKER_URL",
            NO_REDIS,
        )


def _stop(text: str, code: int) -> NoReturn:
    from .terminal import say

    say(text, stderr=True)
    raise SystemExit(code) from None
