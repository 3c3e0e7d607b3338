"""A local Dintero over real HTTP, with accounts, tokens and faults of its own."""

from .options import SandboxOptions
from .server import HOST, Sandbox, run, serving
from .state import SandboxState

__all__ = ["HOST", "Sandbox", "SandboxOptions", "SandboxState", "run", "serving"]
