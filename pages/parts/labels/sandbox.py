"""Drills of the sandbox: their phases."""

from __future__ import annotations

from pages.parts.labels.markdown import Word
from services.console.sandbox import Phase

DRILL: dict[str, Word] = {
    Phase.WAITING: Word("Waiting to begin", "schedule", "gray"),
    Phase.APPLYING: Word("Switching faults on", "sync", "orange"),
    Phase.RUNNING: Word("Faults are on", "local_fire_department", "red"),
    Phase.RESTORING: Word("Switching faults off", "sync", "orange"),
    Phase.RECOVERING: Word("Recovering", "healing", "orange"),
    Phase.CHECKING: Word("Comparing the books", "balance", "blue"),
    Phase.DONE: Word("Finished", "check_circle", "green"),
}
