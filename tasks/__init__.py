"""The table of tasks: what the work is. Every name is a contract.

task                        module     what it does                                       waits
subtokens.ensure            ensure     all tokens last long enough for the next step      yes
subtokens.fan_out           exchange   many accounts' tokens, as a run                    yes
subtokens.exchange          exchange   one account's token, now                           yes
subtokens.for_each_account  for_each   the user's own task for every ready account        yes
subtokens.account_done      for_each   one of these has ended: the next wave              no
subtokens.renew_due         sweep      see to what is due, and hourly duties (beat)       no
subtokens.watch_runs        sweep      the same without duties; workers send it           no
subtokens.work              work       a ticket: claim, exchange and complete what is due no
subtokens.reject            reject     have a refused token replaced                      no
subtokens.discover          accounts   enrol Dintero's sub-accounts, drop what is gone    no
subtokens.forget            accounts   drop accounts and their tokens                     no

List `subtokens.tasks` in the `include` of any Celery app, ours or yours. A process without
Celery, such as a batch job that only reads tokens, passes through here without loading it.
"""

import sys
from typing import TYPE_CHECKING, Any

__all__ = [
    "account_done",
    "discover",
    "ensure",
    "exchange",
    "fan_out",
    "for_each_account",
    "forget",
    "reject",
    "renew_due",
    "watch_runs",
    "work",
]

if TYPE_CHECKING or "celery" in sys.modules:
    from .accounts import discover, forget
    from .ensure import ensure
    from .exchange import exchange, fan_out
    from .for_each import account_done, for_each_account
    from .reject import reject
    from .signals import accompany_our_tasks
    from .sweep import renew_due, watch_runs
    from .work import work

    accompany_our_tasks()
else:

    def __getattr__(name: str) -> Any:  # noqa: ANN401 - a package's attributes have no one type
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module, reload

        import_module("celery")
        return vars(reload(sys.modules[__name__]))[name]
