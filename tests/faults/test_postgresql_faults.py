"""PostgreSQL at the end of a bad line: calls end in time with an error, and the next ones get a new connection."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import IntegrityError, OperationalError

from services.base.identity import new_id
from services.worker import STOP_SECONDS
from state.engine.database import CONNECT_SECONDS, SERVER_OPTIONS, SILENCE_SECONDS, Database
from state.engine.sessions import PING_SECONDS, LinkSilent
from state.schema import MIGRATION_LOCK, migrate
from tests.faults.processes import wait_until, worker
from tests.faults.proxy import TcpProxy
from tests.faults.shop import all_confirmed, place, readiness
from tests.support.inbox_rows import keys, put
from tests.support.nats_server import eventually

pytestmark = [pytest.mark.slow, pytest.mark.alone]

BOUND_SECONDS = 0.6
REST_SECONDS = 20.0


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[TcpProxy]:
    with TcpProxy(f"{make_url(postgres_url).query['host']}/.s.PGSQL.5432") as proxy:
        yield proxy


def through(proxy: TcpProxy, url: str) -> str:
    changed = make_url(url).difference_update_query(["host"]).set(host="127.0.0.1", port=proxy.port)
    return changed.render_as_string(hide_password=False)


@pytest.fixture
def database(postgres_url: str, proxy: TcpProxy) -> Iterator[Database]:
    database = Database(through(proxy, postgres_url), readers=2, writers=2, silence_seconds=BOUND_SECONDS)
    yield database
    database.close()


def fall_silent(proxy):
    def transaction(connection):
        connection.execute(text("SELECT 1"))
        with proxy.stalled():
            connection.execute(text("SELECT 2"))

    return transaction


async def test_connections_that_were_cut_are_replaced(database, proxy):
    for name in ("a", "b", "c"):
        await asyncio.gather(database.write(put(name)), database.read(keys))
        proxy.cut()
    assert await database.read(keys) == ["a", "b", "c"]


async def test_a_transaction_that_is_cut_fails_as_a_whole_and_can_be_repeated(database, proxy):
    def transaction(connection):
        put("a")(connection)
        proxy.cut()
        put("b")(connection)

    with pytest.raises(OperationalError):
        await database.write(transaction)
    assert await database.read(keys) == []
    await database.write(put("a"))
    assert await database.read(keys) == ["a"]


async def test_a_server_that_refuses_is_an_error_at_once_and_used_again_when_it_is_back(database, proxy):
    await database.write(put("a"))
    with proxy.refusing():
        began = time.monotonic()
        for call in (database.write(put("b")), database.read(keys)):
            with pytest.raises(OperationalError, match=r"refused|closed"):
                await call
        assert time.monotonic() - began < BOUND_SECONDS
    await database.write(put("c"))
    assert await database.read(keys) == ["a", "c"]


async def test_a_link_that_goes_silent_in_a_transaction_ends_it_in_time(database, proxy):
    def transaction(connection):
        put("a")(connection)
        fall_silent(proxy)(connection)

    began = time.monotonic()
    with pytest.raises(OperationalError, match=r"did not answer for 0\.6 s") as caught:
        await database.write(transaction)
    assert isinstance(caught.value.orig, LinkSilent)
    assert BOUND_SECONDS <= time.monotonic() - began < BOUND_SECONDS + 1
    assert await database.read(keys) == []


@pytest.mark.parametrize("is_watched", [True, False])
async def test_it_is_the_watchdog_that_ends_a_call_on_a_silent_link(postgres_url, proxy, monkeypatch, is_watched):
    """Without it the call hangs, whatever the server's own clock and the keepalives are set to."""
    monkeypatch.setitem(SERVER_OPTIONS, "statement_timeout", 200)
    silence = BOUND_SECONDS if is_watched else None
    database = Database(through(proxy, postgres_url), readers=1, writers=1, silence_seconds=silence)
    try:
        with ExitStack() as fault:

            def transaction(connection):
                connection.execute(text("SELECT 1"))
                fault.enter_context(proxy.stalled())
                connection.execute(text("SELECT 2"))

            call = asyncio.ensure_future(database.write(transaction))
            (ended, _) = await asyncio.wait([call], timeout=5 * BOUND_SECONDS)
            assert bool(ended) == is_watched
        # The link flows again, and only now does the unwatched call end.
        outcome = (await asyncio.gather(call, return_exceptions=True))[0]
        assert isinstance(outcome, OperationalError) == is_watched
    finally:
        database.close()


async def test_those_who_wait_for_a_connection_share_the_fate_of_those_who_have_one(database, proxy):
    await asyncio.gather(*(database.write(put(f"before-{n}")) for n in range(2)))
    with proxy.stalled():
        began = time.monotonic()
        # Two threads: without sharing, the last of them would find out in the fifteenth round.
        calls = [database.write(put(f"during-{n}")) for n in range(30)] + [database.read(keys) for _ in range(10)]
        ends = {type(end) for end in await asyncio.gather(*calls, return_exceptions=True)}
        assert time.monotonic() - began < BOUND_SECONDS + CONNECT_SECONDS + 1
    assert ends == {OperationalError}
    await database.write(put("z-after"))
    assert await database.read(keys) == ["before-0", "before-1", "z-after"]


def test_nobody_waits_longer_than_ten_seconds_for_a_silent_database():
    in_a_transaction = SILENCE_SECONDS
    with_an_idle_connection = PING_SECONDS + CONNECT_SECONDS
    assert max(in_a_transaction, with_an_idle_connection) + 1 < 10


async def test_every_call_on_a_silent_link_ends_in_time_and_the_next_ones_work(database, proxy):
    await asyncio.gather(*(database.write(put(f"before-{n}")) for n in range(2)), database.read(keys))
    with proxy.stalled():
        began = time.monotonic()
        calls = [database.write(put("during-1")), database.write(put("during-2")), database.read(keys)]
        ends = [type(end) for end in await asyncio.gather(*calls, return_exceptions=True)]
        # The ping of an old connection, then the opening of a new one.
        assert time.monotonic() - began < BOUND_SECONDS + CONNECT_SECONDS + 1
    assert ends == [OperationalError] * 3
    await database.write(put("z-after"))
    assert await database.read(keys) == ["before-0", "before-1", "z-after"]


async def test_a_commit_whose_answer_is_lost_ends_in_time_and_stands(database, proxy):
    with ExitStack() as fault:

        def transaction(connection):
            put("a")(connection)
            fault.enter_context(proxy.losing("answers"))

        with pytest.raises(OperationalError) as caught:
            await database.write(transaction)
    assert isinstance(caught.value.orig, LinkSilent)
    # That is why whoever repeats a write must be able to: with a key, a version or an event's id.
    assert await database.read(keys) == ["a"]
    with pytest.raises(IntegrityError):
        await database.write(put("a"))


def test_a_statement_that_the_server_is_working_on_is_not_taken_for_a_silent_link():
    assert SERVER_OPTIONS["statement_timeout"] + 1000 < SILENCE_SECONDS * 1000


async def other_replica_has_waited(database: Database, seconds: float) -> bool:
    """Whether somebody has waited so long for an advisory lock, by the server's clock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"
        " AND clock_timestamp() - query_start > make_interval(secs => :seconds)"
    )
    return bool(await database.read(lambda c: c.scalar(waiting, {"seconds": seconds})))


async def test_a_migration_waits_for_another_replicas_for_as_long_as_that_takes(database, postgres_server, proxy):
    fresh = through(proxy, postgres_server.new_database(migrated=False))
    locked, go_on = threading.Event(), threading.Event()
    with_patience = Database(fresh, silence_seconds=BOUND_SECONDS)
    other = Database(fresh, silence_seconds=10)

    def hold_the_lock(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        locked.set()
        assert go_on.wait(10)

    try:
        holding = asyncio.create_task(other.write(hold_the_lock))
        await asyncio.to_thread(locked.wait, 10)
        migrating = asyncio.create_task(asyncio.to_thread(migrate, with_patience))
        await eventually(lambda: other_replica_has_waited(other, 2 * BOUND_SECONDS))
        assert not migrating.done()
        go_on.set()
        await holding
        await migrating
        assert await with_patience.read(keys) == []
        # Afterwards the connection is watched like any other.
        with pytest.raises(OperationalError, match="did not answer"):
            await with_patience.read(fall_silent(proxy))
    finally:
        go_on.set()
        with_patience.close()
        other.close()


# ------------------------------------------------------------------------ the worker


@pytest.fixture
def addresses(proxy, postgres_url, nats_url, inventory):
    return {
        "DATABASE_URL": through(proxy, postgres_url),
        "NATS_URL": nats_url,
        "INVENTORY_SERVICE_URL": f"http://127.0.0.1:{inventory.port}",
    }


def test_a_worker_without_its_database_reports_it_and_takes_orders_again_when_it_is_back(tmp_path, addresses, proxy):
    with worker(tmp_path, **addresses) as service:
        wait_until(lambda: readiness(service) == (200, True), REST_SECONDS, service.log)
        placed = [new_id() for _ in range(4)]
        assert place(service, placed[0]).status_code == 201
        proxy.cut()
        assert place(service, placed[1]).status_code == 201
        with proxy.refusing():
            assert readiness(service) == (503, False)
            began = time.monotonic()
            refused = place(service, placed[2])
            assert time.monotonic() - began < CONNECT_SECONDS
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
            assert int(refused.headers["Retry-After"]) >= 1
            assert service.client.get("/healthz").status_code == 200
        wait_until(lambda: readiness(service) == (200, True), REST_SECONDS, service.log)
        assert place(service, placed[2]).status_code == 201
        with proxy.stalled():
            assert readiness(service) == (503, False)
        wait_until(lambda: readiness(service) == (200, True), REST_SECONDS, service.log)
        assert place(service, placed[3]).status_code == 201
        wait_until(lambda: all_confirmed(service, placed), REST_SECONDS, service.log)


def test_a_worker_whose_database_has_fallen_silent_ends_in_time_and_in_good_order(tmp_path, addresses, proxy):
    with worker(tmp_path, **addresses) as service:
        wait_until(lambda: readiness(service) == (200, True), REST_SECONDS, service.log)
        assert place(service, new_id()).status_code == 201
        with proxy.stalled():
            began = time.monotonic()
            service.process.send_signal(signal.SIGTERM)
            service.process.wait(60)
            seconds = time.monotonic() - began
        assert seconds < STOP_SECONDS + 2, service.log()
        assert service.process.returncode == 0
        assert "worker_stopped" in service.log()
