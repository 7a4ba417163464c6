"""Notifications reach the webhook at least once, in order per alert, and a dead webhook hurts nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest

from services.alerting import webhook
from services.alerting.webhook import WebhookDelivery
from services.clients.http.transport import AiohttpTransport, client_session
from state import notifications
from state.engine.database import Database, opened
from state.notifications import FAILED, MAX_PENDING, PENDING, SENT
from tests.alerting.receiver import Pager, pager

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Post:
    """The queue and one sender."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = NOON
        self.outcomes: list[str] = []

    @asynccontextmanager
    async def sender(self, url: str, replica: str = "a") -> AsyncIterator[WebhookDelivery]:
        transport = AiohttpTransport(client_session(connections=4))
        async with httpx.AsyncClient(transport=transport, follow_redirects=False) as client:
            yield WebhookDelivery(
                self.database, lambda: self.now, replica, client, url, lambda: 0.999, self.outcomes.append
            )

    async def queue(self, *names: str, status: str = "firing") -> None:
        for name in names:
            payload = {"alerts": [{"labels": {"alertname": name}, "status": status}]}
            await self.database.write(
                lambda c, name=name, payload=payload: notifications.add(
                    c, alert_id=name, name=name, status=status, payload=payload, at=self.now
                )
            )

    async def states(self) -> list[tuple[str, str, int]]:
        found = await self.database.read(lambda c: notifications.latest(c, 100))
        return [(n.name, n.state, n.attempts) for n in reversed(found)]


@pytest.fixture
def post(database_url: str) -> Iterator[Post]:
    with opened(database_url) as database:
        yield Post(database)


@pytest.fixture
def desk() -> Iterator[Pager]:
    with pager() as running:
        yield running


def names(desk: Pager) -> list[tuple[str, str]]:
    return [(m["alerts"][0]["labels"]["alertname"], m["alerts"][0]["status"]) for m in desk.messages]


async def test_what_is_queued_is_sent_once_and_in_order(post: Post, desk: Pager) -> None:
    await post.queue("A", "B")
    await post.queue("A", status="resolved")
    async with post.sender(desk.url) as sender:
        assert await sender.deliver() is False
        assert await sender.deliver() is False
    assert names(desk) == [("A", "firing"), ("B", "firing"), ("A", "resolved")]
    assert post.outcomes == ["sent"] * 3


async def test_a_refusal_is_tried_again_after_growing_delays_and_delays_only_its_own_alert(
    post: Post, desk: Pager
) -> None:
    desk.status = 503
    await post.queue("A")
    waits = []
    async with post.sender(desk.url) as sender:
        for attempt in range(1, 9):
            await sender.deliver()
            assert await post.states() == [("A", PENDING, attempt)]
            due = (await post.database.read(notifications.latest))[0].next_attempt_at
            assert due is not None
            waits.append((due - post.now).total_seconds())
            asked = desk.asked
            await sender.deliver()
            assert desk.asked == asked
            post.now = due
        assert [round(wait) for wait in waits] == [1, 2, 4, 8, 16, 32, 60, 60]
        post.now -= timedelta(seconds=1)
        desk.status = 200
        await post.queue("A", status="resolved")
        await post.queue("B")
        await sender.deliver()
        assert names(desk) == [("B", "firing")]
        post.now += timedelta(seconds=1)
        await sender.deliver()
    assert names(desk) == [("B", "firing"), ("A", "firing"), ("A", "resolved")]
    assert set(post.outcomes) == {"retried", "sent"}


async def test_a_message_is_given_up_in_the_end_and_those_behind_it_go_on(post: Post, desk: Pager) -> None:
    desk.status = 400
    await post.queue("A")
    await post.queue("A", status="resolved")

    def nearly_worn(connection: Any) -> None:
        connection.exec_driver_sql("UPDATE alert_notifications SET attempts = 599 WHERE status = 'firing'")

    await post.database.write(nearly_worn)
    async with post.sender(desk.url) as sender:
        await sender.deliver()
        assert await post.states() == [("A", FAILED, 600), ("A", PENDING, 1)]
    assert "failed" in post.outcomes


async def test_a_late_sign_of_life_is_not_sent_later(post: Post, desk: Pager) -> None:
    desk.status = 500
    await post.queue("Watchdog")
    async with post.sender(desk.url) as sender:
        await sender.deliver()
    assert await post.states() == [("Watchdog", FAILED, 1)]


async def test_a_redirect_is_not_followed(post: Post, desk: Pager) -> None:
    with pager() as elsewhere:
        desk.status, desk.location = 307, elsewhere.url
        await post.queue("A")
        async with post.sender(desk.url) as sender:
            await sender.deliver()
        assert elsewhere.asked == 0
    (waiting,) = await post.database.read(notifications.latest)
    assert waiting.last_error == "answered 307: redirects are not followed"


async def test_nobody_there_is_noted_and_tried_again(post: Post, desk: Pager) -> None:
    url, port = desk.url, desk.port
    desk.close()
    await post.queue("A")
    async with post.sender(url) as sender:
        await sender.deliver()
        (waiting,) = await post.database.read(notifications.latest)
        assert waiting.state == PENDING
        assert "ConnectError" in (waiting.last_error or "")
        with pager(port) as back:
            post.now += timedelta(seconds=2)
            await sender.deliver()
            assert names(back) == [("A", "firing")]


async def test_what_one_sender_left_another_sends_once_the_lease_has_run_out(post: Post, desk: Pager) -> None:
    await post.queue("A")
    async with post.sender(desk.url) as first, post.sender(desk.url, "b") as second:
        await first.deliver()
        await post.queue("B")
        await second.deliver()
        assert names(desk) == [("A", "firing")]
        post.now += timedelta(seconds=11)
        await second.deliver()
        assert names(desk) == [("A", "firing"), ("B", "firing")]
        await second.release_lease()
        await post.queue("C")
        await first.deliver()
    assert [state for _, state, _ in await post.states()] == [SENT] * 3


async def test_the_queue_is_bounded_and_the_oldest_goes_first(post: Post) -> None:
    def fill(connection: Any) -> None:
        for number in range(MAX_PENDING + 1):
            notifications.add(connection, alert_id=str(number), name="A", status="firing", payload={}, at=NOON)

    await post.database.write(fill)
    assert await post.database.read(notifications.count_pending) == MAX_PENDING
    oldest = await post.database.read(lambda c: notifications.last_of(c, "0"))
    assert oldest is not None
    assert oldest.state == FAILED
    assert "waited" in (oldest.last_error or "")


async def test_a_receiver_that_drips_its_answer_does_not_delay_the_others(
    post: Post, desk: Pager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 0.3)
    over = asyncio.Event()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        while not over.is_set():
            writer.write(b"x")
            await writer.drain()
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), 0.05)
        writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    await post.queue("A")
    try:
        async with (
            asyncio.timeout(30),
            post.sender(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/") as sender,
        ):
            await sender.deliver()
    finally:
        over.set()
        server.close()
    (waiting,) = await post.database.read(notifications.latest)
    assert (waiting.state, waiting.last_error) == (PENDING, "no complete answer within 0.3 s")


@pytest.mark.parametrize("by_the_other", [None, "answered 503"])
async def test_a_late_end_of_an_attempt_does_not_undo_what_another_sender_noted(
    post: Post, by_the_other: str | None
) -> None:
    await post.queue("A")
    (seen,) = await post.database.read(notifications.latest)
    again_at = NOON + timedelta(seconds=9) if by_the_other else None

    def settle(error: str | None, next_at: datetime | None) -> Callable[[Any], bool]:
        return lambda c: notifications.settle(c, seen, NOON, error=error, next_attempt_at=next_at)

    assert await post.database.write(settle(by_the_other, again_at))
    assert not await post.database.write(settle("TimeoutError", NOON + timedelta(seconds=1)))
    assert not await post.database.write(settle(None, None))
    assert await post.states() == [("A", PENDING if by_the_other else SENT, 1)]
    (now,) = await post.database.read(notifications.latest)
    assert (now.last_error, now.next_attempt_at) == (by_the_other, again_at)


async def test_an_attempt_whose_message_another_sender_settled_is_not_counted(post: Post, desk: Pager) -> None:
    await post.queue("A")
    async with post.sender(desk.url) as sender:
        send = sender._post

        async def post_late(notification: notifications.Notification) -> str | None:
            error = await send(notification)
            settled = {"error": None, "next_attempt_at": None}
            await post.database.write(lambda c: notifications.settle(c, notification, NOON, **settled))
            return error

        sender._post = post_late  # type: ignore[method-assign]
        await sender.deliver()
    assert post.outcomes == []
    assert await post.states() == [("A", SENT, 1)]


async def test_a_message_that_raises_or_cannot_be_read_is_given_up_soon_and_keeps_no_other(post: Post) -> None:
    """Whatever it is that raises, the messages about other alerts go on being sent."""
    sent: list[str] = []
    failed: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        name = orjson.loads(request.content)["alerts"][0]["labels"]["alertname"]
        if name == "raising":
            raise RuntimeError("nobody thought of this")
        sent.append(name)
        return httpx.Response(200)

    await post.queue("raising", "unreadable", "Third", "Fourth")
    broken = "UPDATE alert_notifications SET payload = '[5]' WHERE name = 'unreadable'"
    await post.database.write(lambda c: c.exec_driver_sql(broken))
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        sender = WebhookDelivery(
            post.database, lambda: post.now, "a", client, "http://desk/", lambda: 0.999, post.outcomes.append,
            failed.append,
        )  # fmt: skip
        await sender.deliver()
        assert sent == ["Third", "Fourth"]
        for _ in range(10):
            post.now += timedelta(seconds=61)
            await sender.deliver()
    assert await post.states() == [
        ("raising", FAILED, webhook.UNFORESEEN.attempts),
        ("unreadable", FAILED, webhook.UNFORESEEN.attempts),
        ("Third", SENT, 1),
        ("Fourth", SENT, 1),
    ]
    assert post.outcomes.count("failed") == 2
    assert failed == ["notify"] * 2 * webhook.UNFORESEEN.attempts
