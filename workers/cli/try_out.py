"""`subtokens sandbox` and `subtokens demo`: without an account at Dintero."""

import json
from typing import Annotated, Literal

import typer

from ...config.errors import InputError
from .listening import cannot_listen
from .options import AsJson


def sandbox(
    port: Annotated[int, typer.Option(help="0 lets the system choose")] = 8112,
    accounts: Annotated[int, typer.Option(help="how many sub-accounts")] = 500,
    lifetime: Annotated[int, typer.Option(help="seconds a token lives")] = 14_400,
    latency: Annotated[float, typer.Option(help="seconds each answer takes")] = 0.0,
    errors: Annotated[float, typer.Option(help="share of calls answered 500")] = 0.0,
    throttled: Annotated[float, typer.Option(help="share of calls answered 429")] = 0.0,
    refresh_tokens: Annotated[
        bool, typer.Option("--refresh-tokens", help="issue refresh tokens")
    ] = False,
    reissue: Annotated[
        Literal["never", "remaining", "full"],
        typer.Option(help="repeat a token while it lives, with its remaining or full lifetime"),
    ] = "never",
    audience: Annotated[
        Literal["partner", "account"], typer.Option(help="audience the account token needs")
    ] = "partner",
    accepts: Annotated[
        Literal["exchange", "account"], typer.Option(help="token kind that settings takes")
    ] = "exchange",
    seed: Annotated[int, typer.Option(help="makes names and faults repeat")] = 0,
    as_json: AsJson = False,
) -> None:
    """Run a local Dintero over real HTTP; stop it with Ctrl-C.

    Example: subtokens sandbox --accounts 5000 --latency 0.05
    """
    from pydantic import ValidationError

    from ..sandbox import HOST, SandboxOptions, run

    try:
        options = SandboxOptions(
            port=port,
            accounts=accounts,
            lifetime_seconds=lifetime,
            latency_seconds=latency,
            error_share=errors,
            throttle_share=throttled,
            refresh_tokens=refresh_tokens,
            reissue=reissue,
            audience=audience,
            accepts=accepts,
            seed=seed,
        )
    except ValidationError as error:
        problems = [f"{' '.join(map(str, item['loc']))} {item['msg']}" for item in error.errors()]
        raise InputError("\n".join(problems)) from None

    def announce(base_url: str) -> None:
        values = {
            "SUBTOKENS_BASE_URL": base_url,
            "SUBTOKENS_PARTNER_ID": options.partner_id,
            "SUBTOKENS_CLIENT_ID": options.client_id,
            "SUBTOKENS_CLIENT_SECRET": options.client_secret,
        }
        if as_json:
            typer.echo(json.dumps(values))
            return
        typer.echo(f"a local Dintero of partner {options.partner_id} listens; use it with\n")
        for name, value in values.items():
            typer.echo(f"export {name}={value}")
        typer.echo(f"\nits calls: {base_url.removesuffix('/v1')}/__sandbox/stats")

    try:
        run(options, announce)
    except OSError as error:
        raise cannot_listen(HOST, port, error) from None


def demo(
    accounts: Annotated[int, typer.Option(min=1, max=99_999, help="how many sub-accounts")] = 500,
    rate: Annotated[float, typer.Option(min=1, help="upstream calls a second")] = 250.0,
    watch: Annotated[int, typer.Option(min=1, help="seconds to watch the renewals")] = 40,
) -> None:
    """See it work on real parts: discover, exchange, renew.

    Celery workers do it, and a chained batch job uses the tokens. Exit code 1 if one lacked.

    Example: subtokens demo --accounts 2000 --rate 1000
    """
    from ..demo.show import run_demo

    raise typer.Exit(run_demo(accounts, rate, watch))
