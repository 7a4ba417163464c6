"""What fires, since when and why, what to do about it, who is at it, and whether the pager was told."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from pages.parts import actions, alerts, live
from pages.parts import labels as words
from pages.parts.widgets import clock, empty, list_filters, paging
from services.console.alerts import (
    HISTORY_PAGE,
    AlertEvent,
    AlertRow,
    AlertsPage,
    EvaluatorStatus,
    Notification,
    RuleRow,
    WebhookStatus,
    title,
)
from services.console.cache import Reading
from services.console.facade import console


def filters() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Search",
            key="alert",
            bind="query-params",
            placeholder="Alert, label or id",
            icon=":material/search:",
            width=320,
            type="search",
            max_chars=128,
        )
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
    actions.flash()
    reading = console().alerts.page()
    if reading.value is None:
        empty.no_source(reading)
        return
    page, grey = reading.value, bool(reading.problem)
    live.as_of(reading, _evaluated(page.evaluator))
    _warnings(page, reading)
    _standing(page, grey=grey)
    _more(page, grey=grey)


def _evaluated(evaluator: EvaluatorStatus | None) -> str:
    if evaluator is None or evaluator.evaluated_at is None:
        return "not judged so far"
    every = f"{evaluator.interval.total_seconds():g} s"
    ago = clock.ago(evaluator.evaluated_at, console().now())
    return f"judged every {every} by {words.plain(evaluator.replica)}, last {ago}"


def _warnings(page: AlertsPage, reading: Reading[AlertsPage]) -> None:
    if reading.problem:
        return
    if page.evaluator is not None and page.evaluator.is_late:
        last = page.evaluator.evaluated_at
        since = f" since {clock.both(last, console().now())}" if last else ""
        st.warning(
            f"No worker has judged the alerts{since}. What is shown is the last known state.",
            title="Alerts are not being judged",
            icon=":material/notification_important:",
        )
    if page.evaluator is not None and page.evaluator.failures:
        st.warning(
            "  \n".join(words.plain(failure) for failure in page.evaluator.failures),
            title="A part of the alerts is not judged; the others are",
            icon=":material/notification_important:",
        )
    if (trouble := page.webhook.trouble) is not None:
        waiting = f"{page.webhook.pending:,} message{'' if page.webhook.pending == 1 else 's'} to be sent"
        st.warning(
            f"{waiting}. Last attempt: {words.plain(trouble.last_error)}",
            title="Notifications cannot be sent",
            icon=":material/outgoing_mail:",
        )


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
        empty.no_data_yet("Nothing has been judged yet; the worker does so every few seconds.")
    elif page.evaluator.is_late:
        empty.no_data_yet("No alert was firing when they were last judged.")
    else:
        empty.nothing_wrong("No alert fires.")


def _more(page: AlertsPage, *, grey: bool) -> None:
    """The other sides of it, one at a time: what is not looked at is not drawn."""
    sections: dict[str, Callable[[], None]] = {
        "Lately resolved": lambda: _resolved(page, grey=grey),
        "Silences": lambda: _silences(page, grey=grey),
        "All alerts": lambda: _rules(page, grey=grey),
        "Notifications": lambda: _webhook_status(page.webhook, grey=grey),
        "History": _history,
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
        labels = [words.told(value) for name, value in alert.labels.items() if name not in alerts.SAID_ABOVE]
        facts = [f"ended {clock.both(ended, now)}", *([f"lasted {lasted}"] if lasted else []), *labels]
        badge = words.badge(words.ALERT, "resolved", grey=grey)
        st.markdown(f"{badge} **{words.plain(title(alert))}** :small[{' · '.join(facts)}]")


def _silences(page: AlertsPage, *, grey: bool) -> None:
    if not page.silences:
        empty.nothing_wrong("Nothing is silenced.")
    for row in page.silences:
        alerts.silence_row(row, grey=grey)
    if page.ended:
        st.caption("Ended")
    now = console().now()
    for silence in page.ended:
        matchers = ", ".join(f"{m['name']}={m['value']}" for m in silence.matchers)
        how = f"ended early by {words.plain(silence.ended_by)}" if silence.ended_by else "ended by itself"
        st.markdown(
            f":small[:gray[{words.plain(matchers)} · {how} {clock.ago(silence.ends_at, now)} · "
            f"{words.plain(silence.actor)}: {words.plain(silence.reason)}]]"
        )


def _rules(page: AlertsPage, *, grey: bool) -> None:
    st.caption("What is judged here, with the value of the last round. Thresholds come from the settings.")
    rows = [
        {
            "Alert": row.rule.name,
            "State": _state(row, grey=grey),
            "Value": alerts.measured(row.value, row.rule.unit),
            "Threshold": f"{words.plain(row.rule.comparison)} {alerts.measured(row.threshold, row.rule.unit)}",
            "Fires after": clock.span(row.rule.for_duration) if row.rule.for_duration else "at once",
            "Severity": words.word(words.SEVERITY, row.rule.severity).text,
        }
        for row in page.rules
    ]
    st.table(rows, border="horizontal", hide_index=True, alt="Every alert with its value and threshold")


def _state(row: RuleRow, *, grey: bool) -> str:
    if row.state != "resolved":
        return words.badge(words.ALERT, row.state, grey=grey)
    if row.value is None:
        return ":gray-badge[:material/hourglass_empty: Not measured]"
    return f":{'gray' if grey else 'green'}-badge[:material/check_circle: Quiet]"


def _webhook_status(webhook: WebhookStatus, *, grey: bool) -> None:
    now = console().now()
    if not webhook.is_configured:
        empty.no_data_yet("No webhook is set: nobody is told but who looks here. Set ALERT_WEBHOOK_URL.")
        return
    beat = webhook.heartbeat
    if beat is not None:
        badge = words.badge(words.NOTIFICATION, beat.state, grey=grey)
        error = f" · {words.plain(beat.last_error)}" if beat.last_error else ""
        st.markdown(f"{badge} Sign of life :small[{clock.both(beat.finished_at or beat.created_at, now)}{error}]")
    st.caption(f"{webhook.pending:,} waiting to be sent")
    if not webhook.latest:
        empty.no_data_yet("Nothing had to be sent so far.")
    for notification in webhook.latest:
        st.markdown(_message(notification, grey=grey))


def _message(notification: Notification, *, grey: bool) -> str:
    now = console().now()
    badge = words.badge(words.NOTIFICATION, notification.state, grey=grey)
    facts = [clock.both(notification.created_at, now)]
    if notification.attempts != 1:
        facts.append(f"{notification.attempts} attempts" if notification.attempts else "not tried yet")
    if notification.state == "PENDING" and notification.attempts and notification.next_attempt_at:
        facts.append(f"next in {clock.span(notification.next_attempt_at - now)}")
    if notification.last_error:
        facts.append(words.plain(notification.last_error))
    name = f"**{words.plain(notification.name)}** {words.plain(notification.status)}"
    return f"{badge} {name} :small[{' · '.join(facts)}]"


def _history() -> None:
    page = paging.number("alert_page")
    reading = console().alerts.history(page)
    if reading.value is None:
        empty.no_source(reading)
        return
    if not reading.value:
        empty.no_data_yet("Nothing has fired so far.")
    for event in reading.value[:HISTORY_PAGE]:
        st.markdown(live.shade(_line(event, grey=bool(reading.problem)), reading))
    paging.stepped("alert_page", has_more=len(reading.value) > HISTORY_PAGE)


def _line(event: AlertEvent, *, grey: bool) -> str:
    facts = [clock.both(event.at, console().now())]
    labels = [value for name, value in event.labels.items() if name not in ("alertname", "severity")]
    facts += [words.told(value) for value in labels[:4]]
    if event.actor:
        facts.append(f"by {words.plain(event.actor)}")
    if event.detail:
        facts.append(words.plain(event.detail))
    badge = words.badge(words.ALERT_EVENT, event.kind, grey=grey)
    return f"{badge} **{words.plain(event.name)}** :small[{' · '.join(facts)}]"


frame = live.header("Alerts")
filters()
live.body(frame, everything)
