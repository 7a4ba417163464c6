"""Replies in every form that means the same, and replies that mean nothing or too much."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.clients.inventory.models import (
    UnbelievableReply,
    has_error_code,
    read_acknowledgement,
    read_availability,
    read_reservation,
    short_lines,
    stated_reason,
)
from services.clients.inventory.port import Availability, LineAvailability, Reservation
from services.domain.orders.model import Line

ORDER = "f47ac10b-58cc-4372-a567-0e02b2c3d479"
PRODUCT, VARIANT = "0e8dddc7-9ebf-41f3-b08a-5a3f91f1c3c0", "7c9e6679-7425-40de-944b-e07fc1f90ae7"
LINES = (Line(PRODUCT, VARIANT, 2),)
ENDS = "2026-03-01T12:30:00Z"


def checked(available: Any = True, whole: Any = True, **line: Any) -> bytes:
    item = {"productId": PRODUCT, "variantId": VARIANT, "available": available, **line}
    return json.dumps({"success": True, "data": {"available": whole, "items": [item]}}).encode()


def reserved(item: dict[str, Any] | None = None, **changes: Any) -> bytes:
    held = {"productId": PRODUCT, "variantId": VARIANT, "quantity": 2, "reserved": True, **(item or {})}
    data = {"reservationId": "r-1", "orderId": ORDER, "items": [held], "expiresAt": ENDS, **changes}
    return json.dumps({"success": True, "data": data}).encode()


@pytest.mark.parametrize("number", [15, 15.0, "15", "15.0", " 15 "])
def test_a_whole_number_may_be_written_in_several_ways(number):
    content = checked(requestedQuantity=number, availableQuantity=number)
    assert read_availability(content, LINES).lines[0].available_quantity == 15
    assert read_reservation(reserved({"quantity": number}), ORDER, LINES).reservation_id == "r-1"


@pytest.mark.parametrize("quantity", [0, 1, None, -3, "0"])
def test_what_the_service_calls_available_is_available_whatever_the_quantity(quantity):
    answer = read_availability(checked(requestedQuantity=2, availableQuantity=quantity), LINES)
    assert answer.available is True


def test_a_line_without_quantities_is_available_when_the_service_reports_it():
    line = LineAvailability(PRODUCT, VARIANT, available=True, requested_quantity=2, available_quantity=None)
    assert read_availability(checked(), LINES) == Availability(available=True, lines=(line,))
    assert read_availability(checked(available=False, availableQuantity=99), LINES).available is False


@pytest.mark.parametrize("truth", ["true", 1, "yes", None, 1.0])
def test_a_truth_value_is_one_and_nothing_else(truth):
    for content in (checked(available=truth), checked(whole=truth)):
        with pytest.raises(UnbelievableReply):
            read_availability(content, LINES)
    with pytest.raises(UnbelievableReply):
        read_reservation(reserved({"reserved": truth}), ORDER, LINES)


@pytest.mark.parametrize("number", [2.5, "two", True, 1e400, 2**40, "9" * 400, [], {}, "2,0"])
def test_what_is_no_whole_number_of_32_bits_makes_the_reply_unreadable(number):
    with pytest.raises(UnbelievableReply):
        read_availability(checked(availableQuantity=number), LINES)
    with pytest.raises(UnbelievableReply):
        read_reservation(reserved({"quantity": number}), ORDER, LINES)


def test_a_byte_order_mark_is_skipped():
    mark = b"\xef\xbb\xbf"
    assert read_availability(mark + checked(), LINES).available is True
    assert read_reservation(mark + reserved(), ORDER, LINES).reservation_id == "r-1"
    read_acknowledgement(mark)
    read_acknowledgement(mark + b'{"success":true}')
    assert has_error_code(mark + b'{"error":{"code":"NO"}}')


def test_uuids_are_the_same_in_either_case_and_are_answered_as_the_order_has_them():
    content = reserved({"productId": PRODUCT.upper(), "variantId": VARIANT.upper()}, orderId=ORDER.upper())
    assert read_reservation(content, ORDER, LINES).reservation_id == "r-1"
    answer = read_availability(checked().replace(PRODUCT.encode(), PRODUCT.upper().encode()), LINES)
    assert (answer.lines[0].product_id, answer.lines[0].variant_id) == (PRODUCT, VARIANT)


def test_another_id_in_another_case_is_another_id():
    with pytest.raises(UnbelievableReply):
        read_reservation(reserved(orderId="ABC"), "abc", LINES)


def test_a_reservation_id_is_kept_as_it_was_given():
    assert read_reservation(reserved(reservationId=ORDER.upper()), ORDER, LINES).reservation_id == ORDER.upper()


IDS = ["auth0|x", "gid://shop/Product/1", "ABC/12", "Größe-M", ".", "..", "a b", "%2F", "x" * 128]


@pytest.mark.parametrize("name", IDS)
def test_any_printable_id_of_another_system_is_an_id(name):
    content = reserved({"productId": name, "variantId": name}, orderId=name, reservationId=name)
    assert read_reservation(content, name, (Line(name, name, 2),)).reservation_id == name


@pytest.mark.parametrize("name", ["", "x" * 129, "a\x00b", "a\nb", None, 7])
def test_an_id_that_cannot_be_stored_makes_the_reply_unreadable(name):
    with pytest.raises(UnbelievableReply):
        read_reservation(reserved(reservationId=name), ORDER, LINES)


def test_unknown_fields_and_values_are_passed_over():
    content = reserved({"state": "SOFT_HELD", "warehouse": {"deep": [1]}}, state="WHATEVER", note="\x00", big=2**70)
    assert read_reservation(content, ORDER, LINES).reservation_id == "r-1"


@pytest.mark.parametrize(
    "moment",
    ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+01:00", "2026-03-01T12:00:00", "soon", 1e400, None, "2" * 4000],
)
def test_a_time_that_cannot_be_stored_makes_the_reservation_unreadable(moment):
    with pytest.raises(UnbelievableReply) as caught:
        read_reservation(reserved(expiresAt=moment), ORDER, LINES)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize("moment", [ENDS, "2026-03-01T13:30:00+01:00", "2026-03-01T12:30:00.000000000Z"])
def test_a_time_may_be_written_in_several_ways(moment):
    ends = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    assert read_reservation(reserved(expiresAt=moment), ORDER, LINES) == Reservation("r-1", ends)


def test_a_shortage_names_the_lines_of_the_order_only_however_many_the_service_names():
    foreign = [{"productId": f"p{n}", "variantId": "v", "availableQuantity": 0, "text": "x" * 90} for n in range(4000)]
    ours = {"productId": PRODUCT.upper(), "variantId": VARIANT, "availableQuantity": "1", "secret": "x"}
    content = json.dumps({"error": {"details": {"items": [*foreign, ours, ours]}}}).encode()
    expected = {"productId": PRODUCT, "variantId": VARIANT, "requestedQuantity": 2, "availableQuantity": 1}
    assert short_lines(content, LINES) == [expected]


def test_the_text_of_an_error_body_is_cut_and_can_be_stored():
    content = json.dumps({"error": {"code": "C" * 5000, "message": "no\x00" + "m" * 5000}}).encode()
    stated = stated_reason(content)
    assert (len(stated["code"]), len(stated["message"])) == (100, 500)
    assert stated["message"].startswith("no\ufffd")


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"400 Bad Request", b'{"error":"x"}', b'{"error":{"code":""}}']
)
def test_an_error_body_without_a_code_is_not_the_services_own(content):
    assert not has_error_code(content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
FIELDS = ("reservationId", "orderId", "items", "expiresAt")


@given(st.sampled_from(FIELDS), JSON)
def test_a_reservation_is_read_into_what_can_be_stored_or_refused(field, value):
    try:
        found = read_reservation(reserved(**{field: value}), ORDER, LINES)
    except UnbelievableReply:
        return
    assert found.expires_at.utcoffset() is not None
    assert found.reservation_id.isprintable()


@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise_anything_unforeseen(content):
    assert short_lines(content, LINES) == []
    stated_reason(content)
    for read in (lambda: read_availability(content, LINES), lambda: read_acknowledgement(content)):
        try:
            read()
        except UnbelievableReply:
            continue


def test_a_body_nested_too_deeply_is_unreadable():
    deep = b"[" * min(100_000, sys.maxsize) + b"]" * 100_000
    with pytest.raises(UnbelievableReply):
        read_availability(deep, LINES)
    assert stated_reason(deep) == {}
