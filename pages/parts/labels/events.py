"""Events: outgoing, incoming, and dead letters."""

from __future__ import annotations

from pages.parts.labels.markdown import Word

OUTGOING: dict[str, Word] = {
    "pending": Word("Not published", "schedule", "orange"),
    "failing": Word("Refused, tried again", "error", "red"),
    "undeliverable": Word("Cannot be published", "unsubscribe", "red"),
    "published": Word("Published", "check_circle", "green"),
}
INCOMING: dict[str, Word] = {
    "handled": Word("Handled", "check_circle", "green"),
    "ignored": Word("Changed nothing", "remove", "gray"),
    "duplicate": Word("Came again", "content_copy", "gray"),
}
DEAD_LETTER: dict[str, Word] = {
    "OPEN": Word("Open", "mark_email_unread", "red"),
    "REPLAYED": Word("Replayed", "check_circle", "green"),
    "DISCARDED": Word("Discarded", "delete", "gray"),
}
