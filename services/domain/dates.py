"""Formats dates in English; ``strftime`` would use the locale of the process. Pure."""

from __future__ import annotations

from datetime import datetime

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def day_and_month(moment: datetime) -> str:
    """Return day and month such as ``07 Nov``, in the time zone of ``moment``."""
    return f"{moment.day:02} {MONTHS[moment.month - 1]}"
