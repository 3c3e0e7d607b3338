"""The names of our queues: they begin with the namespace, so that deployments share a broker."""

from .errors import SettingsError
from .settings import DeploymentSettings, load


def _namespace() -> str:
    try:
        return load(DeploymentSettings).namespace
    except SettingsError:  # told when all settings are read, before any work
        return "subtokens"


# Read once: what a task is called and where it goes is known before anything starts.
NAMESPACE = _namespace()
SWEEP_QUEUE = f"{NAMESPACE}.sweep"
RENEW_QUEUE = f"{NAMESPACE}.renew"
EXCHANGE_QUEUE = f"{NAMESPACE}.exchange"
# What is over soon is taken in turn with the exchange queue's tickets, and not after them all.
ACCOUNTS_QUEUE = f"{NAMESPACE}.accounts"
# As two kinds of workers take them: renewals wait for nobody, and the rest is as many as you like.
RENEWER_QUEUES = (SWEEP_QUEUE, RENEW_QUEUE)
WORKER_QUEUES = (EXCHANGE_QUEUE, ACCOUNTS_QUEUE)
QUEUES = RENEWER_QUEUES + WORKER_QUEUES
