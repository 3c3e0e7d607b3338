"""The table of tasks: what the work is. Every name is a contract.

task                  module     what it does                                       waits for a run
subtokens.exchange    exchange   one account's token, now                           yes
subtokens.fan_out     exchange   many accounts' tokens, as a run                    yes
subtokens.work        work       a ticket: claim, exchange and complete what is due no
subtokens.renew_due   sweep      keep enough tickets under way (beat, each second)  no
subtokens.watch_runs  sweep      end runs past their deadline, release their steps  no
subtokens.discover    accounts   enrol the partner's sub-accounts from Dintero      no
subtokens.forget      accounts   drop accounts and their tokens                     no

List `subtokens.tasks` in the `include` of any Celery app, ours or yours. A process without
Celery, such as a batch job that only reads tokens, passes through here without loading it.
"""

import sys
from typing import TYPE_CHECKING, Any

__all__ = ["discover", "exchange", "fan_out", "forget", "renew_due", "watch_runs", "work"]

if TYPE_CHECKING or "celery" in sys.modules:
    from .accounts import discover, forget
    from .exchange import exchange, fan_out
    from .queues import consume_our_queues
    from .sweep import renew_due, watch_runs
    from .work import work

    consume_our_queues()
else:

    def __getattr__(name: str) -> Any:  # noqa: ANN401 - a package's attributes have no one type
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module, reload

        import_module("celery")
        return vars(reload(sys.modules[__name__]))[name]
