"""A dramatiq actor per account."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from rivals import calls

dramatiq.set_broker(RedisBroker(url=os.environ["SUBTOKENS_BROKER_URL"]))


@dramatiq.actor
def exchange(account_id: str) -> None:
    calls.exchange(account_id)


send = exchange.send
