"""failure classes of release jobs and review cases"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

releases = sa.table("releases", *(sa.column(name, sa.String) for name in ("last_error", "cause", "failure_class")))
release_moves = sa.table("release_moves", sa.column("cause", sa.String))
reviews = sa.table("reviews", *(sa.column(name, sa.String) for name in ("state", "detail", "cause", "failure_class")))


def class_of(text: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """The class of a row from before failure classes were stored, read once from the text of its error."""
    return sa.case(
        (text.is_(None), "NOT_TRIED"),
        (text == "Not tried yet", "NOT_TRIED"),
        (text.ilike("%circuit breaker%is open%"), "BREAKER_OPEN"),
        (text.like("%INVENTORY_TIMEOUT%"), "INVENTORY_TIMEOUT"),
        (text.like("%INVENTORY_UNAVAILABLE%"), "INVENTORY_UNAVAILABLE"),
        else_="UNEXPECTED_ERROR",
    )


def upgrade() -> None:
    op.add_column("releases", sa.Column("failure_class", sa.String(40)))
    op.add_column("reviews", sa.Column("failure_class", sa.String(40)))
    op.drop_index("ix_releases_unclassified", table_name="releases")
    found = class_of(releases.c.last_error)
    op.execute(sa.update(releases).values(failure_class=found, cause=found))
    op.execute(sa.update(release_moves).values(cause=class_of(release_moves.c.cause)))
    not_sent = reviews.c.detail.like("%Circuit breaker%is open; nothing was sent%")
    open_and_not_sent = sa.update(reviews).where(reviews.c.state == "OPEN", not_sent)
    op.execute(open_and_not_sent.values(failure_class="BREAKER_OPEN", cause="BREAKER_OPEN"))
