

def test_two_long_ids_that_differ_in_their_tails_stay_two_events():
    def event_id(tail: str) -> str:
        body = orjson.dumps({"id": "x" * 200 + tail, "orderId": "o-1", "reservationId": "r-1"})
        return decode(body, subject=events.CONFIRMED, headers=None, fallback_id="S:1").event_id

    assert len(event_id("a")) <= 128
    assert event_id("a") == event_id("a") != event_id("b")
