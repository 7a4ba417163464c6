"""Dates in English: ``strftime`` would use the locale of the process. Pure."""

from __future__ import annotations

from datetime import datetime

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def day_and_month(moment: datetime) -> str:
    """``07 Nov``, in the zone that the time is given in."""
    return f"{moment.day:02} {MONTHS[moment.month - 1]}"
