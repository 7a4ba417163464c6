"""The parts of the Alerts page: cards with runbook and buttons, dialogs, silences, rules, notifications and history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import streamlit as st

from pages.parts import access, actions, frame, labels, overlay
from pages.parts.dialogs import Form
from pages.parts.widgets import clock, empty, paging
from services.alerting.state_machine import Matcher
from services.console.alerts import (
    HISTORY_PAGE,
    AlertRow,
    AlertsPage,
    RuleRow,
    SilenceRow,
    WebhookStatus,
    title,
    would_silence,
)
from services.console.facade import console, new_key
from services.domain.commands import CommandKind
from state.alerts import Alert, AlertEvent
from state.notifications import Notification

LASTS = {
    "30 minutes": timedelta(minutes=30),
    "1 hour": timedelta(hours=1),
    "4 hours": timedelta(hours=4),
    "12 hours": timedelta(hours=12),
    "1 day": timedelta(days=1),
    "3 days": timedelta(days=3),
    "7 days": timedelta(days=7),
}
SAID_ABOVE = ("alertname", "severity", "breaker")
"""Labels that the title contains."""
OPEN_LABELS = {
    "overview": "Open Overview",
    "breakers": "Open Breakers",
    "orders": "Open the orders",
    "releases": "Open the failed releases",
    "events": "Open Events",
    "reviews": "Open Manual review",
}


def card(row: AlertRow, page: AlertsPage, *, grey: bool) -> None:
    """A pending or firing alert: state, facts, buttons and runbook."""
    alert = row.alert
    with st.container(border=True, gap="xsmall", key=f"alert_{alert.alert_id}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(labels.badge(labels.ALERT, alert.state, grey=grey), width="content")
            st.markdown(labels.badge(labels.SEVERITY, alert.severity, grey=grey), width="content")
            st.markdown(f"**{labels.plain(title(alert))}**", width="content")
        st.markdown(labels.plain(alert.annotations.get("summary", "")))
        st.caption(" · ".join(_facts(row)))
        _said(row, grey=grey)
        _buttons(row, page)
        _runbook(row)


def _facts(row: AlertRow) -> list[str]:
    alert, now = row.alert, console().now()
    since = alert.fired_at or alert.active_at
    word = "pending" if alert.state == "pending" else "firing"
    facts = [f"{word} since {clock.both(since, now)}"]
    if row.rule is not None and row.rule.unit != "state":
        facts.insert(0, f"{measured(alert.value, row.rule.unit)}, threshold {_limit(row)}")
    if row.rule is not None and alert.state == "pending" and row.rule.for_duration:
        facts.append(f"fires after {clock.span(row.rule.for_duration)}")
    if alert.kept_since:
        facts.append("condition no longer true, about to end")
    shown = {name: value for name, value in alert.labels.items() if name not in SAID_ABOVE}
    facts += [f"{labels.plain(name)} {labels.sentence(value)}" for name, value in sorted(shown.items())][:8]
    facts.append(labels.text(labels.ALERT_SOURCE, alert.source).lower())
    return facts


def _limit(row: AlertRow | RuleRow) -> str:
    """The threshold in words."""
    if row.rule is None or row.threshold is None:
        return "n/a"
    return f"{labels.plain(row.rule.comparison)} {measured(row.threshold, row.rule.unit)}"


def measured(value: float | None, unit: str) -> str:
    """A value in its unit."""
    if value is None:
        return "no data"
    if unit == "share":
        return f"{value * 100:.1f} %"
    if unit == "seconds":
        return f"{value * 1000:,.0f} ms" if value < 10 else clock.span(timedelta(seconds=value))
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def _said(row: AlertRow, *, grey: bool) -> None:
    alert, now = row.alert, console().now()
    blue, violet = ("gray", "gray") if grey else ("blue", "violet")
    if alert.acknowledged_at:
        note = f": {labels.plain(alert.acknowledged_note)}" if alert.acknowledged_note else ""
        who = labels.plain(alert.acknowledged_by)
        st.markdown(
            f":{blue}-badge[:material/person_check: Acknowledged] {who}, {clock.ago(alert.acknowledged_at, now)}{note}"
        )
    for silence in row.silences:
        left = clock.span(silence.ends_at - now)
        st.markdown(
            f":{violet}-badge[:material/notifications_off: Silenced] for another {left} by "
            f"{labels.plain(silence.actor)}: {labels.plain(silence.reason)}"
        )
    actions.draw(row.command)


def _runbook(row: AlertRow) -> None:
    alert = row.alert
    is_new = alert.state == "firing" and not alert.acknowledged_at and not row.silences
    with st.expander("Runbook", icon=":material/menu_book:", expanded=is_new and row.rule is not None):
        if row.rule is not None:
            steps = [labels.plain(step) for step in row.rule.runbook]
            st.markdown("\n".join([steps[0], "", *(f"{number}. {step}" for number, step in enumerate(steps[1:], 1))]))
            return
        said = {name: text for name, text in alert.annotations.items() if name != "summary"}
        if not said:
            st.caption("The sender gave none.")
        for name, text in said.items():
            st.markdown(f"**{labels.plain(name)}** {labels.plain(text)}")


def _explained(row: AlertRow) -> None:
    """Links to the pages that explain the alert, with their filters."""
    if row.rule is not None:
        pages = {row.rule.page: labels.in_address(row.rule.filters), **dict.fromkeys(row.rule.more_pages)}
        for page, query in pages.items():
            st.page_link(f"{page}.py", label=OPEN_LABELS[page], icon=":material/arrow_forward:", query_params=query)
    elif row.alert.generator_url.startswith(("http://", "https://")):
        st.link_button("Open at the sender", row.alert.generator_url, icon=":material/open_in_new:", type="tertiary")


def _buttons(row: AlertRow, page: AlertsPage) -> None:
    alert = row.alert
    waiting = actions.if_waiting(row.command, "A command on this alert is under way.")
    refused = waiting or ("It does not fire yet." if alert.state != "firing" else None)
    refused = refused or ("It is acknowledged already." if alert.acknowledged_at else None)
    with st.container(horizontal=True, vertical_alignment="center"):
        hint = "Show others that you work on it, until the alert ends."
        if access.button("Acknowledge", f"ack_{alert.alert_id}", icon="person_check", refused=refused, hint=hint):
            overlay.show("Acknowledge", _acknowledge, alert, new_key(), icon=":material/person_check:")
        hint = "Send no notifications about it for a while."
        icon = "notifications_off"
        if access.button("Silence", f"silence_{alert.alert_id}", icon=icon, refused=waiting, hint=hint):
            overlay.show("Silence", _silence, alert, page, new_key(), icon=f":material/{icon}:", width="medium")
        _explained(row)


def _acknowledge(alert: Alert, key: str) -> None:
    st.markdown(
        f"**{labels.plain(alert.name)}** · Others see that you work on it until the alert ends. "
        "The pager gets a message when it ends, not before."
    )
    Form(
        key,
        "Acknowledge",
        lambda note: actions.command(CommandKind.ACKNOWLEDGE_ALERT, alert.alert_id, key, {"note": note}),
        note="Note",
        required=False,
    ).refreshing()


def _silence(alert: Alert, page: AlertsPage, key: str) -> None:
    """Draw the dialog of a silence. Its preview lists the alerts as of the opening of the dialog."""
    st.markdown(
        f"**{labels.plain(alert.name)}** · Nothing is sent about alerts with all of these labels until the end. "
        "They are still evaluated and shown; the silence ends by itself."
    )
    every = Matcher.all_of(alert.labels)
    chosen = st.multiselect(
        "Labels that must be equal",
        [str(matcher) for matcher in every],
        default=[str(matcher) for matcher in every],
        key=f"labels_{key}",
        help="Fewer labels silence more: without the breaker, for example, this alert for all breakers.",
    )
    lasts = st.selectbox("For", list(LASTS), index=1, key=f"lasts_{key}", width=200)
    matchers = tuple(matcher for matcher in every if str(matcher) in chosen)
    _preview(matchers, page)
    if not matchers:
        st.error("Choose at least one label; a silence of everything would silence the next incident.")
        return
    milliseconds = LASTS[lasts or "1 hour"] // timedelta(milliseconds=1)
    arguments = {"matchers": [matcher.wire() for matcher in matchers], "expiresIn": milliseconds}
    Form(
        key,
        "Silence",
        lambda reason: actions.command(CommandKind.SILENCE_ALERT, alert.alert_id, key, arguments | {"reason": reason}),
    ).refreshing()


def _preview(matchers: Sequence[Matcher], page: AlertsPage) -> None:
    hit = would_silence(matchers, page)
    if not hit:
        st.caption("No alert that stands now is silenced by this; one that comes later would be.")
        return
    st.markdown(f"Silences now: **{len(hit)}** of {len(page.standing)} standing")
    rows = [
        {
            "Alert": labels.plain(found.name),
            "State": labels.text(labels.ALERT, found.state),
            "Labels": labels.plain(_others(found)),
        }
        for found in hit[:20]
    ]
    st.table(rows, border="horizontal", hide_index=True, alt="The alerts that would be silenced")


def _others(alert: Alert) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(alert.labels.items()) if name != "alertname")


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
            "Threshold": _limit(row),
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
    if (found := empty.value_of(reading)) is None:
        return
    if not found:
        empty.no_data_yet("Nothing has fired so far.")
    for event in found[:HISTORY_PAGE]:
        st.markdown(frame.shade(_line(event, grey=bool(reading.problem)), reading))
    paging.stepped("alert_page", has_more=len(found) > HISTORY_PAGE)


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
            silenced = f"silences {len(row.alerts) or 'nothing'} now"
            left = clock.span(silence.ends_at - now)
            st.caption(
                f"ends in {left}, at {clock.at(silence.ends_at, now)} · {silenced} · {labels.plain(silence.actor)}: "
                f"{labels.plain(silence.reason)}"
            )
            actions.draw(row.command)
        access.button(
            "End now",
            f"end_{silence.silence_id}",
            icon="notifications",
            refused=actions.if_waiting(row.command, "It is being ended."),
            hint="What still fires is sent again.",
            on_click=actions.store_once,
            args=(CommandKind.END_SILENCE, silence.silence_id, 0, row.command),
        )
