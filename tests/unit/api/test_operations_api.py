"""What operators work with over HTTP: cases, releases, breakers, products, dead letters, the audit log."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import orjson
import pytest

from services.base.loops import Loop
from services.messaging.consumer import Delivery
from tests.support.api import error_of, problems_of
from tests.support.fakes import CAPTURE, START, Fault, PaymentFault
from tests.support.nats_server import eventually

CHECK, RESERVE, RELEASE = "check_availability", "reserve", "release"
NOON = "2026-03-01T12:00:00.000Z"


async def unverified(api, order_id="mine"):
    api.shop.inventory.fail(CHECK, Fault.UNAVAILABLE)
    await api.shop.place_high(order_id=order_id)
    return await api.shop.open_case(order_id)


async def declined(api, order_id="mine"):
    api.shop.payments.fail(CAPTURE, PaymentFault.DECLINE)
    return await api.shop.place(order_id=order_id)


# ----------------------------------------------------------------------- cases


async def test_the_queue_shows_each_case_with_what_can_be_done(api):
    review = await unverified(api)
    assert (await api.data("/api/v1/reviews"))["items"] == [
        {
            "reviewId": review.review_id,
            "orderId": "mine",
            "reason": "AVAILABILITY_UNVERIFIED",
            "state": "OPEN",
            "detail": review.detail,
            "openedAt": NOON,
            "version": 1,
            "allowedActions": ["APPROVE", "CANCEL_ORDER"],
            "resolvedAt": None,
            "resolvedBy": None,
            "resolution": None,
            "resolutionReason": None,
            "note": None,
            "owner": None,
            "claimedUntil": None,
        }
    ]


async def test_the_queue_is_filtered_and_open_cases_come_oldest_first(api):
    for n in range(3):
        await unverified(api, f"o-{n}")
        api.shop.clock.advance(1)
    api.shop.inventory.fail(RESERVE, Fault.UNAVAILABLE)
    await api.shop.place(order_id="waiting")
    await api.shop.resolve(await api.shop.open_case("o-1"), "APPROVE")

    async def ids(**query):
        return [case["orderId"] for case in (await api.data("/api/v1/reviews", **query))["items"]]

    assert await ids() == ["o-0", "o-2", "waiting"]
    assert await ids(state="OPEN", reason="") == ["o-0", "o-2", "waiting"]
    assert await ids(reason="PENDING_INVENTORY") == ["waiting"]
    assert await ids(state="RESOLVED") == ["o-1"]
    assert await ids(orderId="o-2") == ["o-2"]
    assert await ids(limit=1) == ["o-0"]
    (problem,) = problems_of(await api.get("/api/v1/reviews", reason="BOREDOM"))
    assert problem["field"] == "reason"


async def test_a_case_is_resolved_and_the_second_person_receives_the_name_of_the_first(api):
    review = await unverified(api)
    path = f"/api/v1/reviews/{review.review_id}/resolve"
    first = await api.post(path, {"action": "APPROVE", "note": "called", "version": 1}, x_actor="ada")
    assert first.status_code == 200
    data = first.json()["data"]
    assert (data["state"], data["resolvedBy"], data["resolution"], data["note"], data["allowedActions"]) == (
        "RESOLVED",
        "ada",
        "APPROVE",
        "called",
        [],
    )
    second = await api.post(path, {"action": "CANCEL_ORDER", "note": "", "version": 1}, x_actor="bob")
    error = error_of(second, 409, "REVIEW_CONFLICT")
    assert error["details"] == {"by": "ada", "at": NOON, "action": "APPROVE", "state": "RESOLVED", "version": 2}


async def test_an_action_that_the_case_does_not_allow_is_refused(api):
    review = await unverified(api)
    path = f"/api/v1/reviews/{review.review_id}/resolve"
    error = error_of(await api.post(path, {"action": "RECONFIRM", "version": 1}), 409, "INVALID_STATE")
    assert error["details"]["allowed"] == ["APPROVE", "CANCEL_ORDER"]
    (problem,) = problems_of(await api.post(path, {"action": "SHRUG", "version": 1}))
    assert problem["field"] == "action"
    assert "RETRY_RESERVATION" in problem["allowed"]
    (problem,) = problems_of(await api.post(path, {"action": "APPROVE"}))
    assert (problem["field"], problem["value"]) == ("version", None)


async def test_an_unknown_case_is_not_found(api):
    answer = await api.post("/api/v1/reviews/nothing/resolve", {"action": "APPROVE", "version": 1})
    assert error_of(answer, 404, "REVIEW_NOT_FOUND")["details"] == {"reviewId": "nothing"}


async def test_a_reconfirmation_that_fails_answers_with_the_inventory_services_error(api):
    order = await api.shop.place(order_id="mine")
    await api.shop.deliver("inventory.confirmation_failed", order, reason="RESERVATION_EXPIRED")
    api.shop.inventory.fail(RESERVE, Fault.TIMEOUT_BEFORE)
    review = await api.shop.open_case("mine")
    path = f"/api/v1/reviews/{review.review_id}/resolve"
    error_of(await api.post(path, {"action": "RECONFIRM", "version": 1}), 408, "INVENTORY_TIMEOUT", retryable=True)


# -------------------------------------------------------------------- releases


async def test_release_jobs_are_listed_by_state(api):
    await declined(api, "pending")
    await declined(api, "done")
    await api.shop.releases.retry_now("done", actor="ada")
    pending = (await api.data("/api/v1/releases", state="PENDING"))["items"]
    assert pending == [
        {
            "orderId": "pending",
            "reason": "order rejected: PAYMENT_DECLINED",
            "state": "PENDING",
            "attempts": 0,
            "nextAttemptAt": NOON,
            "lastError": None,
            "createdAt": NOON,
            "updatedAt": NOON,
        }
    ]
    assert [job["orderId"] for job in (await api.data("/api/v1/releases", state="DONE"))["items"]] == ["done"]
    assert len((await api.data("/api/v1/releases"))["items"]) == 2
    assert problems_of(await api.get("/api/v1/releases", state="LOST"))[0]["field"] == "state"


async def test_a_release_is_retried_in_the_background(api):
    await declined(api)
    answer = await api.post("/api/v1/releases/mine/retry", x_actor="ada")
    assert (answer.status_code, answer.json()["data"]["state"], api.woken) == (202, "PENDING", 1)
    assert api.shop.inventory.count(RELEASE) == 0
    assert (await api.shop.audit())[0].actor == "ada"


async def test_a_release_that_is_waited_for_answers_with_its_outcome(api):
    await declined(api)
    answer = await api.post("/api/v1/releases/mine/retry?wait=true")
    assert (answer.status_code, answer.json()["data"]["state"]) == (202, "DONE")


async def test_a_release_that_is_waited_for_and_fails_reports_it(api):
    await declined(api)
    api.shop.inventory.fail(RELEASE, Fault.UNAVAILABLE)
    answer = await api.post("/api/v1/releases/mine/retry?wait=true")
    error = error_of(answer, 500, "RELEASE_FAILED", retryable=True)
    assert error["details"]["orderId"] == "mine"
    assert "INVENTORY_UNAVAILABLE" in error["details"]["lastError"]


async def test_several_releases_are_retried_together_or_not_at_all(api):
    await declined(api, "a")
    await declined(api, "b")
    answer = await api.post("/api/v1/releases/retry", {"orderIds": ["a", "b", "a"]})
    assert answer.status_code == 202
    assert [job["orderId"] for job in answer.json()["data"]["items"]] == ["a", "b"]
    audited = len(await api.shop.audit())
    answer = await api.post("/api/v1/releases/retry", {"orderIds": ["a", "nobody"]})
    error_of(answer, 404, "RELEASE_NOT_FOUND")
    assert len(await api.shop.audit()) == audited
    assert problems_of(await api.post("/api/v1/releases/retry", {"orderIds": []}))[0]["field"] == "orderIds"
    error_of(await api.post("/api/v1/releases/nobody/retry"), 404, "RELEASE_NOT_FOUND")


# -------------------------------------------------------------------- breakers


async def test_the_three_breakers_are_listed_with_their_replicas(api):
    await api.recorder.beat()
    items = (await api.data("/api/v1/breakers"))["items"]
    assert [breaker["name"] for breaker in items] == [
        "inventoryServiceChecker",
        "inventoryServiceReleaser",
        "inventoryServiceReserver",
    ]
    for breaker in items:
        assert {
            "name",
            "state",
            "since",
            "retryInMs",
            "calls",
            "failures",
            "failureRate",
            "thresholdPercentage",
            "volumeThreshold",
            "denied",
            "replicas",
        } <= set(breaker)
        assert (breaker["state"], breaker["calls"], breaker["failureRate"]) == ("closed", 0, None)
        assert (breaker["thresholdPercentage"], breaker["volumeThreshold"]) == (50, 5)
        assert [(one["replica"], one["state"]) for one in breaker["replicas"]] == [("replica-1", "closed")]


async def test_the_worst_state_over_the_replicas_is_shown_and_counts_are_added_up(api):
    from state import replicas

    await api.recorder.beat()
    (one, *_rest) = (await api.shop.real_database.read(lambda c: replicas.alive(c, START)))[0].breakers
    others = [
        {**one, "state": state, "calls": 10, "failures": failures, "denied": 3, "retryInMs": retry}
        for state, failures, retry in (("open", 6, 9000), ("half_open", 1, None))
    ]
    for number, breaker in enumerate(others):
        await api.shop.real_database.write(
            lambda c, number=number, breaker=breaker: replicas.beat(
                c,
                replicas.Replica(f"other-{number}", started_at=START, heartbeat_at=START, breakers=[breaker], facts={}),
            )
        )
    found = {breaker["name"]: breaker for breaker in (await api.data("/api/v1/breakers"))["items"]}
    breaker = found[one["name"]]
    assert (breaker["state"], breaker["retryInMs"], breaker["calls"], breaker["failures"], breaker["denied"]) == (
        "open",
        9000,
        20,
        7,
        6,
    )
    assert breaker["failureRate"] == 0.35
    assert [one["replica"] for one in breaker["replicas"]] == ["other-0", "other-1", "replica-1"]


async def test_a_replica_that_is_silent_for_long_is_not_shown(api):
    from state import replicas

    await api.recorder.beat()
    (own,) = await api.shop.real_database.read(lambda c: replicas.alive(c, START))
    await other_says(api, *own.breakers)
    api.shop.clock.advance(6)
    await api.recorder.beat()
    items = (await api.data("/api/v1/breakers"))["items"]
    assert [[one["replica"] for one in breaker["replicas"]] for breaker in items] == [["replica-1"]] * 3


async def other_says(api, *breakers):
    from state import replicas

    await api.shop.real_database.write(
        lambda c: replicas.beat(
            c, replicas.Replica("other", started_at=START, heartbeat_at=START, breakers=list(breakers), facts={})
        )
    )


async def test_the_answer_that_follows_the_opening_call_shows_that_the_breaker_is_open(api):
    """No heartbeat comes between the call and the question."""

    async def fails() -> None:
        raise TimeoutError

    await api.recorder.beat()
    checker = api.shop.breakers.checker
    shown = []
    while checker.effective_state == "closed":
        with suppress(TimeoutError):
            await checker.acall(fails)
        items = (await api.data("/api/v1/breakers"))["items"]
        shown.append([items[0]["state"], *(one["state"] for one in items[0]["replicas"])])
    assert shown == [["closed", "closed"]] * (len(shown) - 1) + [["open", "open"]]


async def test_a_replica_is_shown_before_its_first_heartbeat(api):
    api.shop.breakers.checker.open()
    assert (await api.data("/api/v1/breakers"))["items"][0]["state"] == "open"


async def test_a_state_that_is_not_known_here_counts_as_open_and_breaks_nothing(api):
    await other_says(api, {"name": "inventoryServiceChecker", "state": "isolated"})
    (checker, *_) = (await api.data("/api/v1/breakers"))["items"]
    assert (checker["state"], checker["calls"]) == ("isolated", 0)


async def test_a_change_of_a_breaker_is_stored_at_once(api):
    from state import replicas

    heartbeat = api.recorder.heartbeat = Loop("heartbeat", api.recorder.beat, pause_seconds=60.0)
    for breaker in api.shop.breakers:
        breaker.on_transition(api.recorder.breaker_changed)

    async def stored() -> set[str]:
        alive = await api.shop.real_database.read(lambda c: replicas.alive(c, START))
        return {breaker["state"] for replica in alive for breaker in replica.breakers}

    running = asyncio.create_task(heartbeat.run())
    try:
        await eventually(lambda: is_equal(stored(), {"closed"}))
        # The next round of its own is a minute away.
        api.shop.breakers.reserver.open()
        await eventually(lambda: is_equal(stored(), {"closed", "open"}))
    finally:
        heartbeat.stop()
        await running


async def is_equal(found, expected):
    return await found == expected


# -------------------------------------------------------------------- products


async def test_the_availability_cache_is_listed_and_filtered(api):
    for product, event_type in (("chair", "inventory.out_of_stock"), ("lamp", "inventory.low_stock")):
        data = {"productId": product, "variantId": "v", "availableQuantity": 2, "threshold": 5}
        await api.shop.deliver_raw(event_type, data)
    unavailable = (await api.data("/api/v1/products", available="false"))["items"]
    assert unavailable == [
        {
            "productId": "chair",
            "variantId": "v",
            "available": False,
            "level": "out",
            "availableQuantity": 2,
            "threshold": 5,
            "source": "inventory.out_of_stock",
            "changedAt": NOON,
            "expiresAt": "2026-03-01T12:30:00.000Z",
        }
    ]
    assert [p["productId"] for p in (await api.data("/api/v1/products", available="true"))["items"]] == ["lamp"]
    assert len((await api.data("/api/v1/products?available="))["items"]) == 2


# ---------------------------------------------------------------- dead letters


async def keep(api, body=None, *, seq=7, subject="inventory.confirmed", reason="UnknownOrder: nobody"):
    payload = body if isinstance(body, bytes) else orjson.dumps(body or CONFIRMED)
    await api.shop.dead_letters.keep(
        Delivery(
            stream="INVENTORY_EVENTS", stream_seq=seq, subject=subject, payload=payload, headers={"Nats-Msg-Id": "m-1"}
        ),
        reason,
        attempts=8,
    )
    (dead_letter, *_) = (await api.data("/api/v1/dead-letters"))["items"]
    return dead_letter


CONFIRMED = {"id": "e-1", "type": "inventory.confirmed", "data": {"orderId": "mine", "reservationId": "reservation-1"}}


async def test_a_dead_letter_is_kept_with_its_bytes_and_the_reason(api):
    dead_letter = await keep(api)
    assert dead_letter | {"id": ""} == {
        "id": "",
        "stream": "INVENTORY_EVENTS",
        "streamIncarnation": "",
        "streamSequence": 7,
        "subject": "inventory.confirmed",
        "orderId": "mine",
        "payload": orjson.dumps(CONFIRMED).decode(),
        "payloadBytes": len(orjson.dumps(CONFIRMED)),
        "payloadIsCut": False,
        "headers": {"Nats-Msg-Id": "m-1"},
        "reason": "UnknownOrder: nobody",
        "attempts": 8,
        "state": "OPEN",
        "createdAt": NOON,
        "resolvedAt": None,
        "resolvedBy": None,
        "note": None,
    }


async def test_bytes_that_are_no_text_can_still_be_shown(api):
    dead_letter = await keep(api, b"\xff\x00{")
    assert (dead_letter["payload"], dead_letter["orderId"]) == ("\\xff\x00{", None)


async def test_the_same_message_is_kept_once(api):
    await keep(api)
    await keep(api)
    assert len((await api.data("/api/v1/dead-letters"))["items"]) == 1


async def test_a_replay_runs_the_handler_on_the_stored_bytes_and_is_audited(api):
    dead_letter = await keep(api)
    await api.shop.place(order_id="mine")
    answer = await api.post(f"/api/v1/dead-letters/{dead_letter['id']}/replay", x_actor="ada")
    assert answer.status_code == 200
    data = answer.json()["data"]
    assert (data["state"], data["resolvedBy"], data["note"]) == ("REPLAYED", "ada", "handler: handled")
    assert (await api.shop.order("mine")).status == "CONFIRMED"
    (entry,) = await api.shop.audit()
    assert (entry.actor, entry.action, entry.target, entry.order_id, entry.result) == (
        "ada",
        "REPLAY_EVENT",
        f"dead-letter:{dead_letter['id']}",
        "mine",
        "done",
    )
    again = await api.post(f"/api/v1/dead-letters/{dead_letter['id']}/replay")
    assert error_of(again, 409, "INVALID_STATE")["details"]["state"] == "REPLAYED"


@pytest.mark.parametrize(
    ("body", "reason"),
    [(CONFIRMED, "order mine is not known"), (b"{", "not JSON"), ({"type": "x"}, "type 'x'")],
    ids=["unknown order", "no json", "other type"],
)
async def test_a_replay_that_fails_again_leaves_the_dead_letter_open_and_is_recorded(api, body, reason):
    dead_letter = await keep(api, body)
    answer = await api.post(f"/api/v1/dead-letters/{dead_letter['id']}/replay", x_actor="ada")
    assert reason in error_of(answer, 409, "INVALID_STATE")["message"]
    assert [one["id"] for one in (await api.data("/api/v1/dead-letters"))["items"]] == [dead_letter["id"]]
    (entry,) = await api.shop.audit()
    assert (entry.actor, entry.action, entry.result) == ("ada", "REPLAY_EVENT", "failed")
    assert reason in entry.after["failure"]


async def test_a_dead_letter_is_given_up_with_a_note(api):
    dead_letter = await keep(api)
    answer = await api.post(f"/api/v1/dead-letters/{dead_letter['id']}/discard", {"note": "a test"}, x_actor="ada")
    assert (answer.json()["data"]["state"], answer.json()["data"]["note"]) == ("DISCARDED", "a test")
    assert (await api.data("/api/v1/dead-letters"))["items"] == []
    assert len((await api.data("/api/v1/dead-letters", state="DISCARDED"))["items"]) == 1
    assert [entry.action for entry in await api.shop.audit()] == ["DISCARD_EVENT"]
    again = await api.post(f"/api/v1/dead-letters/{dead_letter['id']}/discard", {"note": "again"})
    error_of(again, 409, "INVALID_STATE")


async def test_an_unknown_dead_letter_is_not_found(api):
    for action in ("replay", "discard"):
        answer = await api.post(f"/api/v1/dead-letters/nothing/{action}")
        assert error_of(answer, 404, "DEAD_LETTER_NOT_FOUND")["details"] == {"deadLetterId": "nothing"}


# ------------------------------------------------------------------- audit log


async def test_the_audit_log_names_actor_and_action_when_and_why(api):
    review = await unverified(api)
    path = f"/api/v1/reviews/{review.review_id}/resolve"
    body = {"action": "CANCEL_ORDER", "note": "FRAUD", "version": 1}
    await api.post(path, body, x_actor="ada", x_correlation_id="ticket-7")
    (entry,) = (await api.data("/api/v1/audit"))["items"]
    assert entry == {
        "at": NOON,
        "actor": "ada",
        "action": "CANCEL_ORDER",
        "target": f"review:{review.review_id}",
        "orderId": "mine",
        "reason": "FRAUD",
        "before": {"status": "PLACED", "inventory_status": "CONFIRM_REQUESTED", "payment_status": "CAPTURED"},
        "after": {
            "status": "CANCELLED",
            "inventory_status": "RELEASE_PENDING",
            "payment_status": "REFUND_PENDING",
        },
        "result": "done",
        "correlationId": "ticket-7",
    }


async def test_a_return_by_a_person_is_audited_under_an_id_of_its_own_and_one_by_a_program_is_not(api):
    order = await api.shop.place_confirmed()
    line = order.lines[0]
    items = [{"productId": line.product_id, "variantId": line.variant_id, "quantity": 1}]
    path = f"/api/v1/orders/{order.order_id}/return"
    assert (await api.post(path, {"items": items, "reason": "DAMAGED"})).status_code == 200
    assert (await api.data("/api/v1/audit"))["items"] == []
    assert (await api.post(path, {"items": items, "reason": "SECOND"}, x_actor="ada")).status_code == 200
    (entry,) = (await api.data("/api/v1/audit"))["items"]
    assert (entry["actor"], entry["action"], entry["reason"]) == ("ada", "RETURN_ITEMS", "SECOND")
    assert entry["correlationId"]


async def test_the_audit_log_comes_newest_first_and_bounded(api):
    for n in range(3):
        await declined(api, f"o-{n}")
        await api.shop.releases.retry([f"o-{n}"], actor="ada")
        api.shop.clock.advance(1)
    items = (await api.data("/api/v1/audit", limit=2))["items"]
    assert [entry["orderId"] for entry in items] == ["o-2", "o-1"]
    assert problems_of(await api.get("/api/v1/audit", limit=1000))[0]["field"] == "limit"


async def test_a_named_person_who_cancels_over_http_is_audited_and_a_program_is_not(api):
    for order_id in ("by-program", "by-person"):
        await api.shop.place(order_id=order_id)
    await api.post("/api/v1/orders/by-program/cancel", {"reason": "X"})
    assert (await api.data("/api/v1/audit"))["items"] == []
    await api.post("/api/v1/orders/by-person/cancel", {"reason": "FRAUD"}, x_actor="ada")
    (entry,) = (await api.data("/api/v1/audit"))["items"]
    assert (entry["actor"], entry["action"], entry["target"]) == ("ada", "CANCEL_ORDER", "order:by-person")


# ---------------------------------------------------------- breakers by hand


async def test_a_breaker_can_be_forced_for_a_while_and_let_go_again(api):
    path = "/api/v1/breakers/inventoryServiceReserver/override"
    body = {"state": "forced_open", "reason": "maintenance", "expiresIn": 60000}
    answer = await api.client.put(path, json=body, headers={"X-Actor": "ada"})
    assert (answer.status_code, answer.json()["data"]["state"]) == (200, "forced_open")
    ended = await api.client.delete(path, headers={"X-Actor": "bob"})
    assert (ended.status_code, ended.json()["data"]["state"]) == (200, "closed")
    assert [(entry.actor, entry.action) for entry in await api.shop.audit()] == [
        ("ada", "FORCE_BREAKER"),
        ("bob", "END_BREAKER_OVERRIDE"),
    ]


async def test_a_wrong_override_is_refused_by_name(api):
    path = "/api/v1/breakers/inventoryServiceReserver/override"
    answer = await api.client.put(path, json={"state": "ajar", "reason": "", "expiresIn": 1})
    assert {problem["field"] for problem in problems_of(answer)} == {"state", "reason", "expiresIn"}
    body = {"state": "forced_open", "reason": "x", "expiresIn": timedelta(minutes=1).seconds * 1000}
    answer = await api.client.put("/api/v1/breakers/toaster/override", json=body)
    error_of(answer, 404, "BREAKER_NOT_FOUND")


# -------------------------------------------------------------- conservation


async def test_what_does_not_add_up_is_listed_with_the_compensation_that_is_offered(api, shop):
    order = await shop.place_confirmed()
    shop.inventory.reservations.clear()
    shop.clock.advance(61)
    await shop.conservation.compare_next()

    (difference,) = (await api.get("/api/v1/differences")).json()["data"]["items"]
    assert (difference["orderId"], difference["kind"], difference["state"]) == (order.order_id, "NOT_DEDUCTED", "OPEN")
    assert difference["compensation"].startswith("Flag the order")

    path = f"/api/v1/differences/{order.order_id}/NOT_DEDUCTED/compensate"
    answer = await api.post(path, {"reason": "seen"})
    assert answer.status_code == 200
    assert answer.json()["data"]["state"] == "COMPENSATING"
    assert (await api.post(path, {"reason": "again"})).status_code == 409
    missing = await api.post(f"/api/v1/differences/{order.order_id}/NOT_PAID/compensate", {"reason": "never seen"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "DIFFERENCE_NOT_FOUND")


async def test_dead_letters_are_grouped_by_cause_the_most_frequent_first(api):
    for seq in (1, 2, 3):
        await keep(api, seq=seq)
    await keep(api, seq=4, subject="inventory.low_stock", reason="not JSON")

    groups = (await api.data("/api/v1/dead-letters"))["groups"]

    assert [(group["subject"], group["reason"], group["letters"]) for group in groups] == [
        ("inventory.confirmed", "UnknownOrder: nobody", 3),
        ("inventory.low_stock", "not JSON", 1),
    ]
    assert groups[0]["firstAt"] == groups[0]["lastAt"] == NOON


# ---------------------------------------------------------------------- claims


async def test_a_case_is_claimed_and_handed_back(api):
    review = await unverified(api)
    path = f"/api/v1/reviews/{review.review_id}"
    case = (await api.post(f"{path}/claim", x_actor="ada")).json()["data"]
    assert (case["owner"], case["claimedUntil"], case["version"]) == ("ada", "2026-03-01T12:15:00.000Z", 1)
    case = (await api.post(f"{path}/release-claim", x_actor="ada")).json()["data"]
    assert (case["owner"], case["claimedUntil"]) == (None, None)


async def test_a_claim_that_has_ended_is_not_shown(api):
    review = await unverified(api)
    await api.post(f"/api/v1/reviews/{review.review_id}/claim", x_actor="ada")
    api.shop.clock.advance(15 * 60)
    (case,) = (await api.data("/api/v1/reviews"))["items"]
    assert (case["owner"], case["claimedUntil"]) == (None, None)


async def test_another_persons_case_is_neither_claimed_nor_resolved_and_the_owner_is_named(guarded):
    review = await unverified(guarded)
    path = f"/api/v1/reviews/{review.review_id}"
    await guarded.shop.claims.claim(review.review_id, actor="ada")
    guarded.acting_as("operator")
    resolve = {"action": "APPROVE", "note": "", "version": 1}
    for verb, body in (("claim", {}), ("release-claim", None), ("resolve", resolve)):
        error = error_of(await guarded.post(f"{path}/{verb}", body), 409, "CLAIMED_BY_OTHER")
        assert error["details"] == {"reviewId": review.review_id, "by": "ada", "until": "2026-03-01T12:15:00.000Z"}


async def test_only_an_admin_takes_a_case_over(guarded):
    review = await unverified(guarded)
    path = f"/api/v1/reviews/{review.review_id}/claim"
    await guarded.shop.claims.claim(review.review_id, actor="ada")
    guarded.acting_as("operator")
    error_of(await guarded.post(path, {"takeOver": True}), 403, "FORBIDDEN")
    guarded.acting_as("admin")
    error_of(await guarded.post(path), 409, "CLAIMED_BY_OTHER")
    assert (await guarded.post(path, {"takeOver": True})).json()["data"]["owner"] == "admin"


async def test_what_matters_is_not_resolved_without_an_explanation(api):
    review = await unverified(api)
    path = f"/api/v1/reviews/{review.review_id}/resolve"
    error = error_of(await api.post(path, {"action": "CANCEL_ORDER", "version": 1}), 400, "VALIDATION_ERROR")
    assert error["details"]["problems"][0]["field"] == "note"
    body = {"action": "CANCEL_ORDER", "version": 1, "resolutionReason": "CUSTOMER_ASKED"}
    assert (await api.post(path, body)).json()["data"]["resolutionReason"] == "CUSTOMER_ASKED"
