"""The fleets that a command is about."""

from ...tasks.fleet import Fleet
from ...tasks.runtime import runtime


def chosen_fleets() -> list[Fleet]:
    """That of the partner who was chosen, else those of all. Raises SettingsError."""
    process = runtime()
    chosen = process.settings.partner_id
    return [process.fleet(one) for one in ([chosen] if chosen else process.settings.partner_ids)]
