"""What is demanded of the figures, and in which table each of them is found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """A bound on a column of a table, over all rows whose names begin so."""

    demand: str
    part: str
    table: str
    rows: str
    column: str
    bound: float
    is_least: bool = True


def at_most(
    bound: float, demand: str, *, part: str, table: str, rows: str = "", column: str
) -> Bar:
    return Bar(demand, part, table, rows, column, bound, is_least=False)


FASTER, CHEAPER = "subtokens is faster by", "needs less CPU by"
FAN_OUT = (
    # calls, latency, times faster than the best Celery pool, times less CPU
    ("one call", "0 ms", 8, 7),
    ("one call", "50 ms", 8, 10),
    ("two calls", "0 ms", 6, 6),
    ("two calls", "50 ms", 6, 6),
)


def of_fan_out():
    for calls, latency, faster, cheaper in FAN_OUT:
        table = f"{calls} per account, {latency}"
        where = f"{calls}, {latency}: "
        for rows, name in (("Celery", "the best Celery pool"), ("dramatiq", ""), ("taskiq", "")):
            if name or calls == "one call":
                demand = f"{where}accounts/s, times {name or rows}"
                yield Bar(demand, "fan_out", table, rows, FASTER, faster)
        demand = f"{where}CPU, times less than the best Celery pool"
        yield Bar(demand, "fan_out", table, "Celery", CHEAPER, cheaper)
        demand = f"{where}accounts/s, times the plain script"
        yield Bar(demand, "fan_out", table, "plain", FASTER, 0.85)


def of_readers():
    for kind in ("TokenReader", "AsyncTokenReader"):
        for rows, beside, bound in (("uncached", "bare", 1.3), ("cached", "uncached", 1 / 20)):
            demand = f"{kind}: {rows} get, beside {beside}"
            where = {"part": "reader", "table": kind, "rows": rows, "column": "ratio"}
            yield at_most(bound, demand, **where)


BARS = (
    *of_fan_out(),
    Bar(
        "one process, 50 ms, 100 calls in flight: share of concurrency / latency, %",
        "scale_out",
        "one process, 100 calls in flight, 50 ms",
        "",
        "% of concurrency / latency",
        70,
    ),
    at_most(
        15,
        "CPU per account, from 1,000 to 100,000 accounts: largest deviation, %",
        part="scale_out",
        table="CPU per account by size of the fleet",
        rows="largest deviation",
        column="beside the smallest, %",
    ),
    at_most(
        0,
        "steady fleet: uncovered account-seconds",
        part="steady_state",
        table="in all",
        rows="uncovered account-seconds",
        column="measured",
    ),
    at_most(
        40,
        "steady fleet: CPU of all our processes, % of one core",
        part="steady_state",
        table="in all",
        rows="CPU of all our processes",
        column="measured",
    ),
    at_most(
        5,
        "steady fleet: growth of memory after the first minute, %",
        part="steady_state",
        table="in all",
        rows="growth after the first minute",
        column="measured",
    ),
    at_most(
        1600,
        "Redis: bytes per account with a token of 800 bytes",
        part="due_set",
        table="memory, everything included",
        rows="",
        column="bytes per account",
    ),
    at_most(
        0.1,
        "Redis: commands sent by clients per account of a fan-out",
        part="commands",
        table="a fan-out",
        rows="store and broker, by clients",
        column="per account",
    ),
    at_most(
        0.5,
        "import subtokens, beside import redis",
        part="start_up",
        table="whole processes",
        rows="import subtokens",
        column="ratio",
    ),
    at_most(
        0.5,
        "subtokens --help, beside celery --help",
        part="start_up",
        table="whole processes",
        rows="subtokens --help",
        column="ratio",
    ),
    *of_readers(),
)
