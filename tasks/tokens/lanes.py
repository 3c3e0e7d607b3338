"""The two lanes of work: renewals by the clock, and what somebody asked for.

An account's due score is above zero in the first and below zero in the second, so that neither
waits behind the other; each has tickets, a queue and a share of the rate of its own.
"""

from typing import Literal

Lane = Literal["renew", "exchange"]
LANES: tuple[Lane, ...] = ("renew", "exchange")
