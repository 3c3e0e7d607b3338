"""The root of every error that subtokens raises on purpose.

SubtokensError
├── SettingsError            a setting is missing or unusable (config)
├── DinteroError             a call failed; carries its blame (tasks.dintero.errors)
├── TokenError               a token cannot be handed out or opened (tasks.tokens.errors)
└── RunFailedError           a run did not meet its policy (tasks.errors)
"""


class SubtokensError(Exception):
    """Root of all errors raised on purpose; its text is safe to log and says what to do."""

    __module__ = "subtokens"  # where a result backend finds it again, with `import subtokens` alone


class SettingsError(SubtokensError):
    """One or more settings are unusable; each line names a setting and its remedy."""

    __module__ = "subtokens"

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))

    def __reduce__(self) -> tuple[type["SettingsError"], tuple[list[str]]]:
        return type(self), (list(self.problems),)


class InputError(SubtokensError, ValueError):
    """What the caller passed cannot be used; nothing was spent or lost by it."""

    __module__ = "subtokens"
