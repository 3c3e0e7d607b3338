"""The table of commands, and what their errors become."""

import os
import sys
from typing import Annotated

import typer
from celery.exceptions import OperationalError as CeleryOperationalError
from kombu.exceptions import OperationalError
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from ...config.errors import InputError, SettingsError, SubtokensError
from .accounts import accounts
from .acl import acl
from .doctor import doctor
from .ensure import ensure
from .exchange import exchange
from .keys import keys
from .monitor import monitor
from .show import explain, token
from .status import status
from .try_out import demo, sandbox
from .up import up

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_NO_REDIS, EXIT_INTERRUPTED = 1, 2, 3, 130

cli = typer.Typer(
    name="subtokens",
    help="Keep one fresh access token for every sub-account of a Dintero partner.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
cli.add_typer(accounts, name="accounts")
cli.add_typer(keys, name="keys")


@cli.callback()
def choose(
    partner: Annotated[
        str | None, typer.Option(help="which of several partners", envvar="SUBTOKENS_PARTNER_ID")
    ] = None,
) -> None:
    """Keep one fresh access token for every sub-account of a Dintero partner."""
    if partner is not None:
        os.environ["SUBTOKENS_PARTNER_ID"] = partner


cli.command()(up)
cli.command()(exchange)
cli.command()(ensure)
cli.command()(status)
cli.command()(monitor)
cli.command()(explain)
cli.command()(token)
cli.command()(doctor)
cli.command()(acl)
cli.command()(sandbox)
cli.command()(demo)


def run() -> None:
    """Run one command; errors raised on purpose become a line on stderr and an exit code."""
    try:
        cli()
    except (InputError, SettingsError) as error:
        _stop(str(error), EXIT_BAD_INPUT)
    except UnicodeEncodeError:
        _stop("a word that was given is not UTF-8 text", EXIT_BAD_INPUT)
    except SubtokensError as error:
        _stop(str(error), EXIT_FAILED)
    except NoPermissionError as error:
        _stop(f"this user of Redis may not do that: {error}; see subtokens acl", EXIT_FAILED)
    except ResponseError as error:
        _stop(f"Redis answers: {error}; what is amiss there: subtokens doctor", EXIT_FAILED)
    except (RedisError, OperationalError, CeleryOperationalError) as error:
        _stop(
            f"Redis cannot be reached: {error}; check SUBTOKENS_STORE_URL and SUBTOKENS_BROKER_URL",
            EXIT_NO_REDIS,
        )
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None


def _stop(text: str, code: int) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - a command line's way to speak
    raise SystemExit(code)
