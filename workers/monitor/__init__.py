"""What operators watch: metrics for Prometheus, health, and a status page; read-only."""

from .fleets import Fleets
from .server import serving

__all__ = ["Fleets", "serving"]
