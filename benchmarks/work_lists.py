"""What the pages ask on which somebody works: manual review, releases, operations, alerts, drills, incidents."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from sqlalchemy import Connection, select

from services.base.settings import Settings
from services.console.access import Access, People
from services.console.alerts import Alerts
from services.console.bulk import BulkJobs
from services.console.cache import ReadingCache
from services.console.conservation import Conservation
from services.console.incidents import IncidentInterval, Incidents
from services.console.releases import Releases
from services.console.reviews import Reviews
from services.console.sandbox import Sandbox
from state import tables
from state.releases import SORTS, ReleaseFilter
from state.review_queue import CaseFilter

Case = Callable[[Connection], Any]

BIG = (
    "reviews", "releases", "commands", "conservation_differences", "operation_items", "order_impacts", "alert_history",
    "alert_notifications", "dead_letters", "their_answers",
)  # fmt: skip
"""Tables that grow with what goes wrong. What is open of them is little and may be sorted; none is read as a whole."""
PARTIAL = ("ix_alert_notifications_pending",)
"""Indexes of the few rows that a list is about."""


class _Source:
    """The console's database, as one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def read(self, query: Callable[[Connection], Any]) -> Any:
        return query(self._connection)

    def write(self, transaction: Callable[[Connection], Any]) -> Any:
        raise AssertionError("nothing is written here")


def access_over(connection: Connection, now: datetime) -> Access:
    """The console's access to one connection, with a cache in which every reading is too old to be used again."""
    tick = count(step=60)
    cache = ReadingCache(lambda: now, lambda: float(next(tick)))
    return Access(_Source(connection), cache, People("admin"), lambda: now)


def work_list_cases(connection: Connection, now: datetime) -> dict[str, Case]:
    """Every list of these pages, by name, as a function of a connection."""
    case = connection.execute(
        select(tables.reviews.c.review_id, tables.reviews.c.order_id).where(tables.reviews.c.state == "OPEN").limit(1)
    ).one()
    hour = IncidentInterval(now - timedelta(hours=1), now)

    def access(c: Connection) -> Access:
        return access_over(c, now)

    def review_cases(look: Callable[[Reviews], Any]) -> Case:
        return lambda c: look(Reviews(access(c)))

    def queue(**wanted: Any) -> Case:
        return review_cases(lambda d: d.queue(CaseFilter(**wanted)))

    def jobs(wanted: ReleaseFilter, sort: str = SORTS[0]) -> Case:
        return lambda c: Releases(access(c)).page(wanted, sort=sort)

    def bulk_jobs(look: Callable[[BulkJobs], Any]) -> Case:
        return lambda c: look(BulkJobs(access(c)))

    def alerts(look: Callable[[Alerts], Any]) -> Case:
        return lambda c: look(Alerts(access(c), Settings.load()))

    def incidents(look: Callable[[Incidents], Any]) -> Case:
        return lambda c: look(Incidents(access(c)))

    return {
        "reviews: open": queue(),
        "reviews: resolved": queue(state="RESOLVED"),
        "reviews: of a reason": queue(reason="CONFIRMATION_TIMEOUT"),
        "reviews: of a cause and a person": queue(cause="INVENTORY_TIMEOUT", owner="ada"),
        "reviews: of a product": queue(product="product-00001"),
        "reviews: of an order": queue(text=case.order_id),
        "reviews: unclaimed": queue(unclaimed=True),
        "reviews: one case": review_cases(lambda d: d.case(case.review_id)),
        "reviews: next": review_cases(lambda d: d.next_unclaimed(CaseFilter())),
        "reviews: inventory lookup": review_cases(lambda d: d.inventory_lookup(case.order_id)),
        **{f"releases: {sort}": jobs(ReleaseFilter(), sort) for sort in SORTS},
        "releases: failed": jobs(ReleaseFilter(states=("FAILED",))),
        "releases: of a cause": jobs(ReleaseFilter(states=("FAILED",), cause="INVENTORY_UNAVAILABLE")),
        "releases: of an order": jobs(ReleaseFilter(order_id=case.order_id)),
        "conservation": lambda c: Conservation(access(c)).page(),
        "bulk jobs: latest": bulk_jobs(lambda b: b.shown()),
        "bulk jobs: of one action": bulk_jobs(lambda b: b.shown(["RETRY"])),
        "bulk jobs: items": bulk_jobs(lambda b: b.items("o-1")),
        "alerts: page": alerts(lambda a: a.page()),
        "alerts: firing": alerts(lambda a: a.firing()),
        "alerts: history": alerts(lambda a: a.history(3)),
        "drills": lambda c: Sandbox(access(c)).page(),
        "drills: one": lambda c: Sandbox(access(c)).drill("d-1"),
        "incident": incidents(lambda i: i.of(hour)),
        "incident: of a breaker": incidents(
            lambda i: i.of(IncidentInterval(hour.start, None, "inventoryServiceReserver"))
        ),
        "incidents: counted": incidents(lambda i: i.counted([hour])),
        "incidents: served": incidents(lambda i: i.served()),
    }
