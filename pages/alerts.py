"""The Alerts page: pending and firing alerts with their runbooks, silences, rules, notifications and history."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from pages.parts import alerts, frame, listing
from pages.parts import labels as words
from pages.parts.widgets import clock, empty, list_filters
from services.console.alerts import AlertRow, AlertsPage, EvaluatorStatus, title
from services.console.cache import Reading
from services.console.facade import console


def filters() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        listing.search("Search", "alert", "Alert, label or id", None, width=320)
        st.segmented_control(
            "Severity",
            list(words.SEVERITY),
            format_func=lambda severity: words.word(words.SEVERITY, severity).text,
            key="severity",
            bind="query-params",
        )
        list_filters.search_button("alert", "Alert, label or id", _clear)


def _clear() -> None:
    st.session_state["alert"] = ""
    st.session_state["severity"] = None


def everything() -> None:
    reading = console().alerts.page()
    if (page := empty.value_of(reading)) is None:
        return
    grey = bool(reading.problem)
    frame.as_of(reading, _evaluated(page.evaluator))
    _warnings(page, reading)
    _standing(page, grey=grey)
    _more(page, grey=grey)


def _evaluated(evaluator: EvaluatorStatus | None) -> str:
    if evaluator is None or evaluator.evaluated_at is None:
        return "not evaluated so far"
    every = f"{evaluator.interval.total_seconds():g} s"
    ago = clock.ago(evaluator.evaluated_at, console().now())
    return f"evaluated every {every} by {words.plain(evaluator.replica)}, last {ago}"


def _warnings(page: AlertsPage, reading: Reading[AlertsPage]) -> None:
    if reading.problem:
        return
    alarm = ":material/notification_important:"
    if (evaluator := page.evaluator) and evaluator.is_late:
        since = f" since {clock.both(evaluator.evaluated_at, console().now())}" if evaluator.evaluated_at else ""
        text = f"No worker has evaluated the alerts{since}. What is shown is the last known state."
        st.warning(text, title="Alerts are not being evaluated", icon=alarm)
    if evaluator and evaluator.failures:
        text = "  \n".join(words.plain(failure) for failure in evaluator.failures)
        st.warning(text, title="A part of the alerts is not evaluated; the others are", icon=alarm)
    if (trouble := page.webhook.trouble) is not None:
        waiting = f"{page.webhook.pending:,} message{'' if page.webhook.pending == 1 else 's'} to be sent"
        text = f"{waiting}. Last attempt: {words.plain(trouble.last_error)}"
        st.warning(text, title="Notifications cannot be sent", icon=":material/outgoing_mail:")


def _wanted(row: AlertRow) -> bool:
    text = words.typed(st.session_state.get("alert")).lower()
    severity = st.session_state.get("severity")
    alert = row.alert
    where = (alert.alert_id, alert.name, *(f"{name}={value}" for name, value in alert.labels.items()))
    return (not severity or alert.severity == severity) and (not text or any(text in part.lower() for part in where))


def _standing(page: AlertsPage, *, grey: bool) -> None:
    shown = [row for row in page.standing if _wanted(row)]
    firing = sum(row.alert.state == "firing" for row in page.standing)
    silenced = sum(row.alert.state == "firing" and bool(row.silences) for row in page.standing)
    if page.standing:
        of_them = f", {silenced} of them silenced" if silenced else ""
        parts = [f"{firing} firing{of_them}", f"{len(page.standing) - firing} pending"]
        st.markdown(f"**{' · '.join(parts)}**")
    for row in shown:
        alerts.card(row, page, grey=grey)
    if shown:
        return
    if page.standing:
        empty.nothing_matches("No alert that stands fits the filter.", _clear)
    elif page.evaluator is None:
        empty.no_data_yet("Nothing has been evaluated yet; the worker does so every few seconds.")
    elif page.evaluator.is_late:
        empty.no_data_yet("No alert was firing when they were last evaluated.")
    else:
        empty.nothing_wrong("No alert fires.")


def _more(page: AlertsPage, *, grey: bool) -> None:
    """Draw the tabs, and the content of the open tab only."""
    sections: dict[str, Callable[[], None]] = {
        "Lately resolved": lambda: _resolved(page, grey=grey),
        "Silences": lambda: alerts.silences(page, grey=grey),
        "All alerts": lambda: alerts.rules(page, grey=grey),
        "Notifications": lambda: alerts.notifications(page.webhook, grey=grey),
        "History": alerts.history,
    }
    for tab, draw in zip(st.tabs(list(sections), key="section", bind="query-params"), sections.values(), strict=True):
        if tab.open:
            with tab:
                draw()


def _resolved(page: AlertsPage, *, grey: bool) -> None:
    shown = [row for row in page.resolved if _wanted(row)]
    if not shown:
        if page.resolved:
            empty.nothing_matches("No resolved alert fits the filter.", _clear, key="clear_resolved")
        else:
            empty.nothing_wrong("Nothing fired in the last day.")
        return
    now = console().now()
    for row in shown:
        alert = row.alert
        ended = alert.resolved_at or now
        lasted = clock.span(ended - alert.fired_at) if alert.fired_at and alert.fired_at < ended else ""
        labels = [words.sentence(value) for name, value in alert.labels.items() if name not in alerts.SAID_ABOVE]
        facts = [f"ended {clock.both(ended, now)}", *([f"lasted {lasted}"] if lasted else []), *labels]
        badge = words.badge(words.ALERT, "resolved", grey=grey)
        st.markdown(f"{badge} **{words.plain(title(alert))}** :small[{' · '.join(facts)}]")


frame.page("Alerts", everything, fixed=filters)
