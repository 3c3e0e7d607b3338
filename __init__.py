"""Keep one fresh access token for every sub-account of a Dintero partner."""

__version__ = "0.1.0"
