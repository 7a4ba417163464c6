"""Counts the attempts at each message of a consumer, and chooses the delay before the next delivery.

The server counts deliveries. A delivery that failed only because of the database does not count as an attempt.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from services.domain.retry import Randomness
from services.messaging.durable_consumer import MAX_UNSETTLED

DELAYS_SECONDS = (1, 2, 5, 15, 30)
"""Before each redelivery, jittered by a fifth; the last one repeats."""

Place = tuple[str, int]
"""Incarnation of the stream and place in it."""


class Excused:
    """Counts, per message, the deliveries that failed because of the database; keeps MAX_UNSETTLED messages."""

    def __init__(self) -> None:
        self._excused: OrderedDict[Place, int] = OrderedDict()

    def count(self, place: Place) -> int:
        """Returns how many deliveries of the message do not count as attempts."""
        return self._excused.get(place, 0)

    def add(self, place: Place) -> None:
        """Record one more delivery that does not count."""
        self._excused[place] = self.count(place) + 1
        self._excused.move_to_end(place)
        if len(self._excused) > MAX_UNSETTLED:
            self._excused.popitem(last=False)

    def forget(self, place: Place) -> None:
        """Drop the count of a message that is settled."""
        self._excused.pop(place, None)


def redelivery_delay_seconds(
    num_delivered: int, randomness: Randomness, delays_seconds: Sequence[float] = DELAYS_SECONDS
) -> float:
    """The delay after the given delivery failed: the planned one, give or take a fifth."""
    planned = delays_seconds[min(num_delivered, len(delays_seconds)) - 1]
    return planned * (0.8 + 0.4 * randomness())
