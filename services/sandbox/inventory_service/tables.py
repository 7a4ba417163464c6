"""Tables of the Inventory Service, with the constraints that the database enforces."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    event,
    inspect,
    text,
)

from services.messaging.envelope import SOURCE as ORDER_SOURCE
from state.engine.database import UtcDateTime
from state.tables.base import optional, required

metadata = MetaData()

ACTIVE = "ACTIVE"
EXPIRED = "EXPIRED"
CONFIRMED = "CONFIRMED"
RELEASED = "RELEASED"
RESTOCKED = "RESTOCKED"
RESERVATION_STATES = (ACTIVE, EXPIRED, CONFIRMED, RELEASED, RESTOCKED)

RESERVE = "HOLD"
RELEASE = "RELEASE"
EXPIRE = "EXPIRE"
DEDUCT = "DEDUCT"
RESTOCK_CANCEL = "RESTOCK_CANCEL"
RESTOCK_RETURN = "RESTOCK_RETURN"
ADJUST = "ADJUST"
MOVEMENT_KINDS = (RESERVE, RELEASE, EXPIRE, DEDUCT, RESTOCK_CANCEL, RESTOCK_RETURN, ADJUST)

IN_STOCK = "IN_STOCK"
LOW = "LOW"
OUT = "OUT"
STOCK_LEVELS = (IN_STOCK, LOW, OUT)


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_is_known")


stock = Table(
    "stock",
    metadata,
    Column("product_id", String(128), primary_key=True),
    Column("variant_id", String(128), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("on_hand", Integer, nullable=False),
    Column("reserved", Integer, nullable=False, default=0),
    Column("safety", Integer, nullable=False, default=0),
    Column("low_stock_threshold", Integer, nullable=False, default=0),
    Column("level", String(16), nullable=False, doc="The level last announced; edges are seen against it."),
    CheckConstraint("on_hand >= 0", name="on_hand_is_not_negative"),
    CheckConstraint("reserved >= 0", name="reserved_is_not_negative"),
    CheckConstraint("reserved <= on_hand", name="reserved_is_on_hand"),
    CheckConstraint("safety >= 0", name="safety_is_not_negative"),
    CheckConstraint("low_stock_threshold >= 0", name="threshold_is_not_negative"),
    _one_of("level", STOCK_LEVELS),
)

reservations = Table(
    "reservations",
    metadata,
    Column("reservation_id", String(64), primary_key=True),
    Column("order_id", String(128), nullable=False),
    Column("user_id", String(128)),
    Column("state", String(16), nullable=False),
    *required(UtcDateTime, "created_at", "expires_at", "updated_at"),
    Column("confirmed_at", UtcDateTime),
    Column("mismatch", Boolean, nullable=False, default=False, doc="order.created named other lines than are held."),
    _one_of("state", RESERVATION_STATES),
)
Index(
    "one_living_reservation_per_order",
    reservations.c.order_id,
    unique=True,
    sqlite_where=reservations.c.state != EXPIRED,
)
Index("reservations_by_order", reservations.c.order_id, reservations.c.created_at)
Index("active_by_expiry", reservations.c.expires_at, sqlite_where=reservations.c.state == ACTIVE)
Index("reservations_by_update", reservations.c.updated_at)

reservation_lines = Table(
    "reservation_lines",
    metadata,
    Column("reservation_id", ForeignKey("reservations.reservation_id"), primary_key=True),
    Column("product_id", String(128), primary_key=True),
    Column("variant_id", String(128), primary_key=True),
    Column("quantity", Integer, nullable=False),
    Column("deducted", Integer, nullable=False, default=0),
    Column("returned", Integer, nullable=False, default=0, doc="Returned so far, restockable or not."),
    ForeignKeyConstraint(["product_id", "variant_id"], ["stock.product_id", "stock.variant_id"]),
    CheckConstraint("quantity > 0", name="quantity_is_positive"),
    CheckConstraint("deducted IN (0, quantity)", name="deducted_whole_or_not"),
    CheckConstraint("returned BETWEEN 0 AND deducted", name="returned_within_deducted"),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("order_id", String(128), primary_key=True),
    Column("cause", String(32), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    comment="Orders that may never hold stock again, whether or not they ever did.",
)

returns = Table(
    "returns",
    metadata,
    Column("order_id", String(128), primary_key=True),
    Column("return_id", String(128), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("restockable", Boolean, nullable=False),
    Column("lines", JSON, nullable=False, doc="What was taken back, after the cap."),
)

ledger = Table(
    "ledger",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", String(16), nullable=False),
    *required(String(128), "product_id", "variant_id"),
    *required(Integer, "on_hand_delta", "reserved_delta"),
    Column("order_id", String(128)),
    Column("reservation_id", String(64)),
    Column("reason", String(200)),
    ForeignKeyConstraint(["product_id", "variant_id"], ["stock.product_id", "stock.variant_id"]),
    CheckConstraint("on_hand_delta <> 0 OR reserved_delta <> 0", name="movement_moves"),
    _one_of("kind", MOVEMENT_KINDS),
)
Index("ledger_by_order", ledger.c.order_id, sqlite_where=ledger.c.order_id.isnot(None))


@event.listens_for(ledger, "after_create")
def _make_append_only(_table: Table, connection: Connection, **_options: object) -> None:
    for verb in ("UPDATE", "DELETE"):
        connection.exec_driver_sql(
            f"CREATE TRIGGER ledger_refuses_{verb.lower()} BEFORE {verb} ON ledger "
            "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
        )


inbox = Table(
    "inbox",
    metadata,
    Column("event_id", String(128), primary_key=True),
    Column("type", String(64), primary_key=True),
    Column("source", String(128), primary_key=True),
    Column("outcome", String(32), nullable=False),
    Column("handled_at", UtcDateTime, nullable=False, index=True),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("event_id", String(64), nullable=False, unique=True),
    Column("subject", String(64), nullable=False),
    Column("order_id", String(260), nullable=False, doc="The correlation id: the order's, or product/variant."),
    Column("payload", LargeBinary, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    *optional(UtcDateTime, "published_at", "claimed_until"),
    Column("attempts", Integer, nullable=False, default=0),
    Column("last_error", Text),
    Column("traceparent", String(55), doc="Of the request or event that caused it."),
    Column("undeliverable_at", UtcDateTime, doc="Since when the broker can never take it; it is not claimed."),
    Column("undeliverable_reason", Text),
)
Index("outbox_unpublished", outbox.c.id, sqlite_where=outbox.c.published_at.is_(None))
Index("outbox_published", outbox.c.published_at, sqlite_where=outbox.c.published_at.isnot(None))

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("subject", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)


def make(connection: Connection) -> None:
    """Create missing tables, and missing columns of databases of earlier versions."""
    had_inbox = inspect(connection).has_table(inbox.name)
    is_older = had_inbox and inbox.c.source.name not in _columns(connection, inbox)
    if is_older:
        # SQLite cannot change a primary key, so the rows are copied into a new table.
        connection.exec_driver_sql("ALTER TABLE inbox RENAME TO inbox_by_event_id")
        connection.exec_driver_sql("DROP INDEX ix_inbox_handled_at")
    metadata.create_all(connection)
    if is_older:
        connection.execute(
            text(
                "INSERT INTO inbox (event_id, type, source, outcome, handled_at) "
                "SELECT event_id, type, :source, outcome, handled_at FROM inbox_by_event_id"
            ),
            {"source": ORDER_SOURCE},
        )
        connection.exec_driver_sql("DROP TABLE inbox_by_event_id")
    known = _columns(connection, outbox)
    for column in (outbox.c.traceparent, outbox.c.undeliverable_at, outbox.c.undeliverable_reason):
        if column.name not in known:
            kind = column.type.compile(connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE outbox ADD COLUMN {column.name} {kind}")


def _columns(connection: Connection, table: Table) -> set[str]:
    return {column["name"] for column in inspect(connection).get_columns(table.name)}
