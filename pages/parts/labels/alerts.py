"""Alerts: states, severities, sources, history, and notifications."""

from __future__ import annotations

from pages.parts.labels.markdown import Word

ALERT: dict[str, Word] = {
    "firing": Word("Firing", "notifications_active", "red"),
    "pending": Word("Pending", "hourglass_top", "orange"),
    "resolved": Word("Resolved", "check_circle", "green"),
}
SEVERITY: dict[str, Word] = {
    "critical": Word("Critical", "error", "red"),
    "warning": Word("Warning", "warning", "orange"),
}
ALERT_SOURCE: dict[str, Word] = {
    "worker": Word("Evaluated here", "dns", "gray"),
    "prometheus": Word("Received from Prometheus", "input", "gray"),
}
ALERT_EVENT: dict[str, Word] = {
    "FIRING": Word("Firing", "notifications_active", "red"),
    "RESOLVED": Word("Resolved", "check_circle", "green"),
    "ACKNOWLEDGED": Word("Acknowledged", "person_check", "blue"),
    "SILENCED": Word("Silenced", "notifications_off", "violet"),
    "SILENCE_ENDED": Word("Silence ended", "notifications", "gray"),
}
NOTIFICATION: dict[str, Word] = {
    "PENDING": Word("Waits", "schedule", "orange"),
    "SENT": Word("Sent", "check_circle", "green"),
    "FAILED": Word("Given up", "error", "red"),
}
