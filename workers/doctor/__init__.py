"""`subtokens doctor`: looks at a set-up from its settings to its workers, and changes nothing."""

from .examination import examine
from .finding import Finding

__all__ = ["Finding", "examine"]
