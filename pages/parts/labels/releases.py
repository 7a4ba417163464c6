"""Release jobs: their states, and what was done about them before."""

from __future__ import annotations

from pages.parts.labels.markdown import Word
from pages.parts.labels.reviews import ACTIONS
from services.domain.past_resolutions import ReleaseActionKind

RELEASE: dict[str, Word] = {
    "PENDING": Word("Pending", "hourglass_top", "orange"),
    "FAILED": Word("Failed", "error", "red"),
    "DONE": Word("Released", "check_circle", "green"),
}
PAST_ACTIONS: dict[str, str] = ACTIONS | {
    "BY_ITSELF": "Settled by itself",
    ReleaseActionKind.RETRY: "Retry",
    ReleaseActionKind.BULK_RETRY: "Bulk retry",
    ReleaseActionKind.AUTOMATIC: "Automatic retries",
    ReleaseActionKind.MARKED: "Marked released",
    ReleaseActionKind.BULK_MARKED: "Marked released in bulk",
}
