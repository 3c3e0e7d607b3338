"""The fleets that a command is about, and how one stands by the limits of its own."""

from ..tasks.fleet import Fleet
from ..tasks.runtime import runtime
from ..tasks.tokens.coming_day import fleet_forecast
from ..tasks.tokens.forecast import Forecast
from ..tasks.tokens.status import FleetStatus, fleet_status


def chosen_fleets() -> list[Fleet]:
    """That of the partner who was chosen, else those of all. Raises SettingsError."""
    process = runtime()
    chosen = process.settings.partner_id
    return [process.fleet(one) for one in ([chosen] if chosen else process.settings.partner_ids)]


async def status_of(fleet: Fleet) -> FleetStatus:
    """How it stands now. Raises redis.RedisError."""
    accounts_per_second = fleet.rate.per_second / fleet.partner.calls_per_exchange
    return await fleet_status(fleet.store, accounts_per_second)


async def forecast_of(fleet: Fleet) -> Forecast | None:
    """Its coming day; None before its first token. Raises redis.RedisError."""
    calls, cadence = fleet.partner.calls_per_exchange, fleet.exchanger.cadence
    return await fleet_forecast(fleet.store, fleet.rate.per_second, calls, cadence)
