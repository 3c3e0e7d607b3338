"""What operators watch: metrics for Prometheus, health, and a status page; read-only."""

from .fleets import Fleets
from .server import Monitor

__all__ = ["Fleets", "Monitor"]
