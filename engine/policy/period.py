"""Which hour, day, week, month or year of a calendar a moment is in, by name. Names sort as the periods do."""

from datetime import datetime


def hour(local: datetime) -> str:
    """With its offset from UTC, which tells apart the two hours of a clock change."""
    return local.isoformat(timespec="hours")


def day(local: datetime) -> str:
    """As 2026-11-24."""
    return local.date().isoformat()


def week(local: datetime) -> str:
    """By ISO 8601, as 2026-W48."""
    year, number, _ = local.isocalendar()
    return f"{year:04}-W{number:02}"


def month(local: datetime) -> str:
    """As 2026-11."""
    return f"{local.year:04}-{local.month:02}"


def year(local: datetime) -> str:
    """As 2026."""
    return f"{local.year:04}"
