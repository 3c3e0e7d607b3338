"""`subtokens acl`: lines for an ACL file of Redis, a user for each role."""

from typing import Annotated
from urllib.parse import urlsplit

import typer

from ...config.errors import InputError
from ...config.ids import checked_partner_id
from ...tasks.tokens.roles import PASSWORD, ROLES, WEAKER, Role, Scope, rules, user_name


def acl(
    role: Annotated[str | None, typer.Option(help=f"one of {', '.join(ROLES)}; else all")] = None,
    partner: Annotated[str | None, typer.Option(help="of one partner alone")] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(help="a queue of your own apps on the broker; celery if none"),
    ] = None,
    for_6_2: Annotated[
        bool, typer.Option("--for-6-2", help="for Redis 6.2, which tells reading from writing less")
    ] = False,
) -> None:
    """Print users of Redis for the parts of a deployment.

    Each may do what it needs and no more. Put each password's SHA-256 into its line.

    Example: subtokens acl >> users.acl
    """
    from ...config.queues import QUEUES
    from ...config.settings import Settings, load
    from ...config.urls import store_address
    from .terminal import say

    settings = load(Settings)
    chosen: list[Role] = [name for name in ROLES if role in {None, name}]
    if not chosen:
        raise InputError(f"--role {role!r:.40} is none of {', '.join(ROLES)}")
    partners = (checked_partner_id(partner),) if partner else settings.partner_ids
    database = urlsplit(settings.broker_url.get_secret_value()).path.strip("/")
    others = tuple(queue or ("celery",))
    is_cluster = store_address(settings.store_url.get_secret_value()).kind == "cluster"
    for name in chosen:
        for ids in [(one,) for one in partners] if name == "reader" else [partners]:
            scope = Scope(settings.namespace, ids, QUEUES, others, int(database or 0), is_cluster)
            told = rules(name, scope, for_6_2=for_6_2)
            typer.echo(f"user {user_name(name, scope)} {' '.join(told)}")
        if for_6_2 and name in WEAKER:
            say(f"weaker on 6.2: as {name}, {WEAKER[name]}", stderr=True)
    say(f"in place of {PASSWORD[1:]}: printf %s PASSWORD | sha256sum", stderr=True)
