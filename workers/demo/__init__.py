"""The demo: the main job on real parts, from nothing, in under a minute."""

from .show import run_demo

__all__ = ["run_demo"]
