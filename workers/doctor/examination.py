"""The order of the checks: each stands behind what it needs, and is left out where that failed."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from redis.exceptions import NoPermissionError, RedisError

from ...config.errors import InputError, SettingsError
from ...config.ids import checked_account_id
from ...config.settings import Settings, load
from ..exit_codes import NO_REDIS
from . import redis_checks, set_up
from .finding import Finding, failed, well
from .partner import partner_findings
from .servers import Server, visit


async def examine(account_id: str | None, *, with_calls: bool) -> AsyncIterator[Finding]:
    """Every finding as it is made. Raises InputError for an account that cannot be meant."""
    for finding in set_up.misspelt_names(set_up.names_given()):
        yield finding
    try:
        settings = load(Settings)
    except SettingsError as error:
        for finding in set_up.unusable_settings(error):
            yield finding
        return
    partner_ids = _chosen_partners(settings, account_id)
    yield well("settings", f"usable, for {', '.join(partner_ids)}")
    async for finding in _guarded("set-up", _set_up(settings)):
        yield finding
    servers: dict[str, Server] = {}
    async for finding in _guarded("Redis", _servers(settings, servers)):
        yield finding
    if "store" not in servers:
        return
    for partner_id in partner_ids:
        branch = partner_findings(settings, partner_id, account_id, with_calls=with_calls)
        async for finding in _guarded("partner", branch):
            is_one_of_many = len(partner_ids) > 1
            name = f"{partner_id} {finding.name}" if is_one_of_many else finding.name
            yield replace(finding, name=name)


def _chosen_partners(settings: Settings, account_id: str | None) -> tuple[str, ...]:
    chosen = (settings.partner_id,) if settings.partner_id else settings.partner_ids
    if account_id is None:
        return chosen
    # Of several partners, the one is meant whose id begins as the account's does.
    owners = chosen if len(chosen) == 1 else [p for p in chosen if p[:4] == account_id[:4]]
    if not owners:
        raise InputError(f"whose account is {account_id}? name --partner before the command")
    checked_account_id(account_id, owners[0])
    return tuple(owners)


async def _set_up(settings: Settings) -> AsyncIterator[Finding]:
    yield set_up.files_of_secrets(settings)
    yield set_up.toy_keys(settings.master_keys)


async def _servers(settings: Settings, servers: dict[str, Server]) -> AsyncIterator[Finding]:
    """Visit the servers; those that serve are put into `servers`, by role."""
    urls = {"store": settings.store_url, "broker": settings.broker_url}
    if settings.result_url:
        urls["result"] = settings.result_url
    visits = [
        visit(role, f"SUBTOKENS_{role.upper()}_URL", url.get_secret_value())
        for role, url in urls.items()
    ]
    for answer in await asyncio.gather(*visits):
        finding = redis_checks.answering(answer) if isinstance(answer, Server) else answer
        yield finding
        if isinstance(answer, Server) and finding.level != "failure":
            servers[answer.role] = answer
    if "store" in servers:
        for finding in redis_checks.checks_of(servers["store"], servers.get("broker")):
            yield finding


async def _guarded(name: str, branch: AsyncIterator[Finding]) -> AsyncIterator[Finding]:
    """Pass findings on; an error ends the branch alone. Its text may hold what it was given."""
    try:
        async for finding in branch:
            yield finding
    except NoPermissionError:
        remedy = "give the user of SUBTOKENS_STORE_URL all commands on the keys of its namespace"
        yield failed("store rights", "the store refuses a command that workers need", remedy)
    except RedisError as error:
        text, remedy = f"went away meanwhile: {type(error).__name__}", "look into its log"
        yield failed("store", text, remedy, NO_REDIS)
    except Exception as error:  # noqa: BLE001 - a doctor does not die of what it finds
        text = f"this check itself failed: {type(error).__name__}"
        yield failed(name, text, "report it with the versions of subtokens and Redis")
