"""Whether this machine's clock agrees with others', as expiry is judged by it."""

from .finding import Finding, doubtful, failed, well

_WARN_SECONDS, _FAIL_SECONDS = 2, 30


def seconds_ahead(
    asked_at: float, answered_at: float, theirs: float, width_seconds: float = 0.0
) -> float:
    """How far our clock is ahead, at least; the answer tells of an instant within its width."""
    return max(0.0, asked_at - theirs - width_seconds) or min(0.0, answered_at - theirs)


def clock(name: str, whose: str, ahead_seconds: float) -> Finding:
    """Judge by how far our clock is ahead."""
    apart = abs(ahead_seconds)
    if apart < _WARN_SECONDS:
        return well(name, f"agrees with {whose} within {_WARN_SECONDS} s")
    side = "ahead of" if ahead_seconds > 0 else "behind"
    text = f"this machine's clock is {apart:.0f} s {side} {whose}"
    remedy = "let NTP set the clocks of both (chrony, systemd-timesyncd)"
    return (failed if apart >= _FAIL_SECONDS else doubtful)(name, text, remedy)
