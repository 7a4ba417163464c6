"""What every bounded type for values from outside guarantees, for any input."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, available_timezones

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from services.domain import external
from services.domain.external import NotAllowed, in_zone, named_zone, of_zone, time_or_none, utc_time

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)

texts = st.text(st.characters(exclude_categories=[]), max_size=200)
offsets = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
documents = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=30)


@given(texts)
def test_an_accepted_id_is_unchanged_and_storable(value):
    try:
        accepted = external.identifier(value)
    except NotAllowed:
        assert not value or len(value) > 128 or not value.isprintable()
    else:
        assert accepted == value
        assert "\x00" not in accepted
        accepted.encode()


@pytest.mark.parametrize(
    "value", ["auth0|x", "gid://shop/Product/1", "ABC/12", "Größe-M", "a b", ".", "..", "7", "x" * 128, "日本", "=1+1"]
)
def test_ids_of_other_systems_are_ids(value):
    assert external.identifier(value) == value


@pytest.mark.parametrize("value", ["", "x" * 129, "a\nb", "a\x00b", "\u200b", "\ud800", None, 7, 7.0, True, b"x", []])
def test_what_is_no_id_is_refused(value):
    with pytest.raises(NotAllowed, match="1 to 128 printable characters"):
        external.identifier(value)


@given(st.uuids(), st.randoms())
def test_uuids_are_compared_without_regard_to_case(uuid, random):
    text = "".join(random.choice([char.lower(), char.upper()]) for char in str(uuid))
    assert external.canonical_id(text) == str(uuid)
    assert external.is_same_id(text, str(uuid))


@pytest.mark.parametrize("value", ["ABC-1", "3FA85F64", "3FA85F64-5717-4562-B3FC-2C963F66AFAG", "x" * 36])
def test_ids_that_are_no_uuids_are_compared_exactly(value):
    assert external.canonical_id(value) == value
    assert not external.is_same_id(value, value.swapcase())


@given(st.datetimes(timezones=offsets))
def test_an_accepted_time_is_in_utc_and_survives_text(at):
    try:
        accepted = external.utc_time(at.isoformat())
    except NotAllowed:
        # Only a year that leaves 1 to 9999 in UTC.
        with pytest.raises(OverflowError):
            at.astimezone(UTC)
    else:
        assert accepted == at
        assert accepted.tzinfo is UTC
        assert external.utc_time(accepted.isoformat()) == accepted


@pytest.mark.parametrize(
    "value",
    [
        "9999-12-31T23:59:59-05:00",
        "0001-01-01T00:00:00+01:00",
        "2026-01-01T00:00:00",
        "never",
        "",
        "2026",
        0,
        None,
        "2026-13-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z" + " " * 100,
        datetime(2026, 1, 1),  # noqa: DTZ001
    ],
)
def test_times_that_cannot_be_kept_are_refused(value):
    with pytest.raises(NotAllowed, match="years 1 to 9999"):
        external.utc_time(value)


@given(texts, st.integers(1, 250))
def test_accepted_text_is_within_its_length_and_storable(value, limit):
    try:
        assert external.storable_text(value, limit) == value
    except NotAllowed:
        assert len(value) > limit or any(char == "\x00" or "\ud800" <= char <= "\udfff" for char in value)
    else:
        value.encode()


@given(texts, st.integers(1, 250))
def test_cut_text_can_always_be_stored(value, limit):
    cut = external.cut_text(value, limit)
    assert external.storable_text(cut, limit) == cut


@given(st.integers(-(2**31), 2**31 - 1), st.sampled_from([int, float, str, lambda n: f"{n}.0", lambda n: f" {n} "]))
def test_a_whole_number_may_be_written_in_several_forms(number, form):
    assert external.whole_number(form(number)) == number


@pytest.mark.parametrize(
    "value",
    [True, None, 5.5, "5.5", "", "five", "0x5", "1e3", "\u0665", float("nan"), float("inf"), 2**31, "9" * 5000, [5]],
)
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(NotAllowed, match="a whole number from"):
        external.whole_number(value)


def test_a_whole_number_stays_within_its_bounds():
    assert external.whole_number("3", 1, 3) == 3
    with pytest.raises(NotAllowed, match="from 1 to 3"):
        external.whole_number(4, 1, 3)


@given(documents)
def test_accepted_json_comes_back_unchanged(document):
    try:
        accepted = external.bounded_json(document, 10_000)
    except NotAllowed:
        return
    assert orjson.loads(orjson.dumps(accepted)) == document


@pytest.mark.parametrize(
    "document",
    [{"a": float("nan")}, [float("-inf")], {"a": [2**63]}, {"a\x00": 1}, ["\ud800"], {"a": "x" * 10_001}, [object()]],
)
def test_json_that_would_change_is_refused(document):
    with pytest.raises(NotAllowed):
        external.bounded_json(document, 10_000)


def test_json_has_a_depth():
    assert external.read_json(b"[" * 32 + b"]" * 32, 1_000)
    assert external.read_json(b"[" * 32 + b"1" + b"]" * 32, 1_000)
    with pytest.raises(NotAllowed, match="32 levels"):
        external.read_json(b"[" * 33 + b"]" * 33, 1_000)


@given(documents.filter(lambda value: value == value))
def test_json_may_begin_with_a_bom(document):
    try:
        plain = external.read_json(json.dumps(document).encode(), 10_000)
    except NotAllowed:
        return
    assert external.read_json(b"\xef\xbb\xbf" + json.dumps(document).encode(), 10_000) == plain


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_not_allowed(content):
    try:
        external.read_json(content, 100)
    except NotAllowed:
        return
    assert len(content) <= 100


class _Body(BaseModel):
    id: external.Identifier
    key: external.CanonicalIdentifier
    at: external.UtcTime
    number: external.WholeNumber
    text: external.Text100


def test_the_types_serve_as_pydantic_fields():
    upper = "3FA85F64-5717-4562-B3FC-2C963F66AFA6"
    body = _Body.model_validate_json(
        f'{{"id":"{upper}","key":"{upper}","at":"2026-01-01T01:00:00+01:00","number":"5","text":"x"}}'
    )
    assert body == _Body(id=upper, key=upper.lower(), at=datetime(2026, 1, 1, tzinfo=UTC), number=5, text="x")


def test_a_field_that_does_not_fit_is_a_validation_error():
    with pytest.raises(ValidationError) as raised:
        _Body.model_validate(
            {"id": "", "key": "a\nb", "at": "9999-12-31T23:59:59-05:00", "number": 2**40, "text": "\x00"}
        )
    assert {error["loc"][0] for error in raised.value.errors()} == {"id", "key", "at", "number", "text"}


ZONES = st.sampled_from(sorted(available_timezones())).map(ZoneInfo) | st.integers(-1439, 1439).map(
    lambda minutes: timezone(timedelta(minutes=minutes))
)
EXTREMES = st.sampled_from(["0001-01-01", "0001-01-01T03:00", "9999-12-31T20:00", "9999-12-31T23:59:59.999999"]).map(
    datetime.fromisoformat
)


@given(EXTREMES | st.datetimes(), ZONES)
def test_a_time_of_any_year_can_be_shown_in_any_zone(naive: datetime, zone: tzinfo) -> None:
    moment = naive.replace(tzinfo=UTC)
    shown = in_zone(moment, zone)
    assert shown == moment
    assert len(f"{shown:%d %b %Y %H:%M}") > len("1 Jan 1 00:00")


@given(EXTREMES | st.datetimes(), ZONES)
def test_a_time_that_was_picked_in_any_zone_is_one_in_utc(picked: datetime, zone: tzinfo) -> None:
    assert utc_time(of_zone(picked, zone))


@given(st.text() | st.sampled_from(["Europe", "../../etc/passwd", "/etc/localtime", "posixrules", "x" * 5000, "\0"]))
def test_a_zone_with_any_name_is_one(name: str) -> None:
    assert NOON.astimezone(named_zone(name)) == NOON


@given(st.none() | st.text() | st.integers() | st.floats() | st.datetimes() | st.just("0001-01-01T00:00:00+14:00"))
def test_whatever_is_written_as_a_time_is_one_or_none(value: object) -> None:
    found = time_or_none(value)
    assert found is None or found.tzinfo is UTC
