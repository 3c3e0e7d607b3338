"""`subtokens up`: Redis, workers and beat on one machine, kept running until they are stopped."""

from .run import run_up

__all__ = ["run_up"]
