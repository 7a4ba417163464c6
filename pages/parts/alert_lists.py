"""The lists below the cards of the Alerts page: silences, all rules, notifications and history."""

from __future__ import annotations

import streamlit as st

from pages.parts import access, actions, frame, labels
from pages.parts.alerts import measured
from pages.parts.widgets import clock, empty, paging
from services.console.alerts import (
    HISTORY_PAGE,
    AlertEvent,
    AlertsPage,
    Notification,
    RuleRow,
    SilenceRow,
    WebhookStatus,
)
from services.console.facade import console, same_sight_key


def silences(page: AlertsPage, *, grey: bool) -> None:
    if not page.silences:
        empty.nothing_wrong("Nothing is silenced.")
    for row in page.silences:
        _silence_row(row, grey=grey)
    if page.ended:
        st.caption("Ended")
    now = console().now()
    for silence in page.ended:
        matchers = ", ".join(f"{m['name']}={m['value']}" for m in silence.matchers)
        how = f"ended early by {labels.plain(silence.ended_by)}" if silence.ended_by else "ended by itself"
        st.markdown(
            f":small[:gray[{labels.plain(matchers)} · {how} {clock.ago(silence.ends_at, now)} · "
            f"{labels.plain(silence.actor)}: {labels.plain(silence.reason)}]]"
        )


def rules(page: AlertsPage, *, grey: bool) -> None:
    st.caption("What is evaluated here, with the value of the last round. Thresholds come from the settings.")
    rows = [
        {
            "Alert": row.rule.name,
            "State": _state(row, grey=grey),
            "Value": measured(row.value, row.rule.unit),
            "Threshold": f"{labels.plain(row.rule.comparison)} {measured(row.threshold, row.rule.unit)}",
            "Fires after": clock.span(row.rule.for_duration) if row.rule.for_duration else "at once",
            "Severity": labels.word(labels.SEVERITY, row.rule.severity).text,
        }
        for row in page.rules
    ]
    st.table(rows, border="horizontal", hide_index=True, alt="Every alert with its value and threshold")


def _state(row: RuleRow, *, grey: bool) -> str:
    if row.state != "resolved":
        return labels.badge(labels.ALERT, row.state, grey=grey)
    if row.value is None:
        return ":gray-badge[:material/hourglass_empty: Not measured]"
    return f":{'gray' if grey else 'green'}-badge[:material/check_circle: Quiet]"


def notifications(webhook: WebhookStatus, *, grey: bool) -> None:
    now = console().now()
    if not webhook.is_configured:
        empty.no_data_yet("No webhook is set: nobody is told but who looks here. Set ALERT_WEBHOOK_URL.")
        return
    beat = webhook.heartbeat
    if beat is not None:
        badge = labels.badge(labels.NOTIFICATION, beat.state, grey=grey)
        error = f" · {labels.plain(beat.last_error)}" if beat.last_error else ""
        st.markdown(f"{badge} Sign of life :small[{clock.both(beat.finished_at or beat.created_at, now)}{error}]")
    st.caption(f"{webhook.pending:,} waiting to be sent")
    if not webhook.latest:
        empty.no_data_yet("Nothing had to be sent so far.")
    for notification in webhook.latest:
        st.markdown(_message(notification, grey=grey))


def _message(notification: Notification, *, grey: bool) -> str:
    now = console().now()
    badge = labels.badge(labels.NOTIFICATION, notification.state, grey=grey)
    facts = [clock.both(notification.created_at, now)]
    if notification.attempts != 1:
        facts.append(f"{notification.attempts} attempts" if notification.attempts else "not tried yet")
    if notification.state == "PENDING" and notification.attempts and notification.next_attempt_at:
        facts.append(f"next in {clock.span(notification.next_attempt_at - now)}")
    if notification.last_error:
        facts.append(labels.plain(notification.last_error))
    name = f"**{labels.plain(notification.name)}** {labels.plain(notification.status)}"
    return f"{badge} {name} :small[{' · '.join(facts)}]"


def history() -> None:
    page = paging.number("alert_page")
    reading = console().alerts.history(page)
    if reading.value is None:
        empty.no_source(reading)
        return
    if not reading.value:
        empty.no_data_yet("Nothing has fired so far.")
    for event in reading.value[:HISTORY_PAGE]:
        st.markdown(frame.shade(_line(event, grey=bool(reading.problem)), reading))
    paging.stepped("alert_page", has_more=len(reading.value) > HISTORY_PAGE)


def _line(event: AlertEvent, *, grey: bool) -> str:
    facts = [clock.both(event.at, console().now())]
    values = [value for name, value in event.labels.items() if name not in ("alertname", "severity")]
    facts += [labels.sentence(value) for value in values[:4]]
    if event.actor:
        facts.append(f"by {labels.plain(event.actor)}")
    if event.detail:
        facts.append(labels.plain(event.detail))
    badge = labels.badge(labels.ALERT_EVENT, event.kind, grey=grey)
    return f"{badge} **{labels.plain(event.name)}** :small[{' · '.join(facts)}]"


def _silence_row(row: SilenceRow, *, grey: bool) -> None:
    """One running silence and the button that ends it."""
    silence, now = row.silence, console().now()
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"silence_{silence.silence_id}"):
        with st.container(gap="xxsmall", width="stretch"):
            names = ", ".join(labels.plain(str(matcher)) for matcher in row.matchers)
            badge = f":{'gray' if grey else 'violet'}-badge[:material/notifications_off: Silenced]"
            st.markdown(f"{badge} {names}")
            held = f"{len(row.alerts)} held back now" if row.alerts else "nothing held back now"
            left = clock.span(silence.ends_at - now)
            st.caption(
                f"ends in {left}, at {clock.at(silence.ends_at, now)} · {held} · {labels.plain(silence.actor)}: "
                f"{labels.plain(silence.reason)}"
            )
            if row.command:
                st.markdown(f":small[{actions.summary(row.command)}]")
        block = access.write_block()
        waiting = "It is being ended." if actions.is_waiting(row.command) else None
        st.button(
            "End now",
            key=f"end_{silence.silence_id}",
            icon=":material/notifications:",
            disabled=bool(block or waiting),
            help=block or waiting or "What still fires is sent again.",
            on_click=_end,
            args=(row,),
        )


def _end(row: SilenceRow) -> None:
    silence = row.silence
    key = same_sight_key("end_silence", silence.silence_id, 0, row.command)
    actions.store(lambda actor: console().alerts.end_silence(silence, actor=actor, command_id=key))
