"""No token and no client secret leaves where it belongs, in success or in failure.

Every token of the sandbox begins with TOKEN_MARK. What is searched: each command that Redis was
sent, what it keeps, the workers' logs at their most talkative, and what the commands print.
"""

from collections.abc import Callable

import pytest
from celery import chain
from celery.canvas import Signature

import subtokens

from .conftest import (
    CANARY_SECRET,
    DEADLINE_SECONDS,
    Site,
    Upstream,
    account,
    account_ids,
    await_ready,
    sending_by,
)
from .searching import PLANTED, kept, secrets_in, traffic_of


def test_no_secret_is_found_where_it_does_not_belong(new_site: Callable[..., Site]) -> None:
    accounts = account_ids(1, 12)
    said: list[str] = []
    with Upstream(accounts=12, inactive=2, refresh_tokens=True) as upstream:
        site = new_site(upstream.base_url, log_level="DEBUG", token_kind="account")
        worker = site.worker("worker", "--loglevel=DEBUG", "--include=probes", "--beat")
        await_ready(worker)
        with traffic_of(site.broker_url) as traffic, sending_by(site.app):
            site.enrol(accounts)

            def places() -> dict[str, bytes]:
                return {
                    "traffic": traffic.so_far(),
                    "broker and results": kept(site.broker),
                    "store": kept(site.store),
                    "log": worker.said().encode(),
                    "commands": "".join(said).encode(),
                }

            def tell(*arguments: str, **environment: str) -> None:
                done = site.cli(*arguments, environment=site.whole_environment | environment)
                said.extend([done.out, done.err])

            # It succeeds, …
            steps = chain(
                subtokens.discover.si(),
                subtokens.fan_out.si(account_ids=accounts[:10]),
                Signature("probe.echo", options={"queue": "subtokens.exchange"}),
            )
            summary = steps.apply_async().get(timeout=DEADLINE_SECONDS)
            assert summary["done"] == 10
            tell("token", account(1))
            tell("exchange", account(2))
            # … and fails: accounts, the upstream, our credential.
            with upstream.troubled(error_share=1.0):
                step = subtokens.fan_out.si(timeout=0.5).apply_async()
                with pytest.raises(subtokens.RunFailedError):
                    step.get(timeout=DEADLINE_SECONDS)
            tell("exchange", account(11))
            tell(
                *("accounts", "discover"),
                SUBTOKENS_NAMESPACE="other",
                SUBTOKENS_CLIENT_SECRET=CANARY_SECRET + "-wrong",
            )
            assert "401" in said[-1] or "refused" in said[-1], said[-1]
            assert secrets_in(places()) == {}

            # A token that is planted in each place is found in each.
            site.app.send_task("probe.echo", (PLANTED,), queue="subtokens.exchange").get(
                timeout=DEADLINE_SECONDS
            )
            site.store.hset("planted", "field", PLANTED)
            tell("token", account(1), "--reveal")
            assert set(secrets_in(places())) == set(places())
