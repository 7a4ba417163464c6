"""Work of people: review cases, release jobs, commands, bulk jobs, the audit log and visits of the console."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table, Text

from services.domain.calls import FailureClass
from state.engine.column_types import JsonCounts, JsonObject, JsonTexts, TextWithDefault
from state.engine.database import UtcDateTime
from state.tables.base import BY_KEY, Key, Serial, Word, metadata, optional, required, where

reviews = Table(
    "reviews",
    metadata,
    Column("review_id", Key, primary_key=True),
    Column("order_id", Key, ForeignKey("orders.order_id"), nullable=False),
    *required(Word, "reason", "state"),
    *required(Text, "detail"),
    *required(UtcDateTime, "opened_at"),
    *optional(UtcDateTime, "resolved_at", "claimed_until"),
    *optional(Key, "resolved_by", "owner"),
    *optional(Word, "resolution"),
    *optional(Text, "note"),
    *required(Integer, "version"),
    Column("cause", Word, nullable=False, server_default=""),
    *optional(Word, "resolution_reason", "failure_class"),
    Index("ix_reviews_state_opened_at", "state", "opened_at"),
    Index("ix_reviews_state_reason_opened_at", "state", "reason", "opened_at"),
    Index("ix_reviews_state_resolved_at", "state", "resolved_at"),
    Index("ix_reviews_state_claimed_until", "state", "claimed_until"),
    Index("ix_reviews_reason_cause_resolved_at", "reason", "cause", "resolved_at"),
    Index("ix_reviews_order_id", "order_id"),
    Index("uq_reviews_open_case", "order_id", "reason", unique=True, **where("state = 'OPEN'")),
)

inventory_lookups = Table(
    "their_answers",
    metadata,
    Column("order_id", Key, ForeignKey("orders.order_id"), primary_key=True),
    *optional(Word, "stock", "said"),
    *optional(Key, "reservation_id"),
    *optional(UtcDateTime, "expires_at"),
    *optional(Word, "problem"),
    *required(UtcDateTime, "asked_at"),
    *required(Key, "asked_by"),
    Index("ix_their_answers_asked_at", "asked_at"),
    **BY_KEY,
)

releases = Table(
    "releases",
    metadata,
    Column("order_id", Key, ForeignKey("orders.order_id"), primary_key=True),
    *required(Text, "reason"),
    *required(Word, "state"),
    *required(Integer, "attempts", "version"),
    *optional(UtcDateTime, "next_attempt_at"),
    *optional(Text, "last_error"),
    # The key of the last failure (failure class and HTTP status), which jobs with the same failure share.
    *optional(TextWithDefault(160, FailureClass.NOT_TRIED), "cause"),
    *optional(TextWithDefault(40, FailureClass.NOT_TRIED), "failure_class"),
    *required(UtcDateTime, "created_at", "updated_at"),
    Index("ix_releases_state_updated_at", "state", "updated_at"),
    Index("ix_releases_state_attempts", "state", "attempts"),
    Index("ix_releases_state_cause_updated_at", "state", "cause", "updated_at"),
    Index("ix_releases_next_attempt_at", "next_attempt_at", **where("state = 'PENDING'")),
)

release_actions = Table(
    "release_moves",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("order_id", Key, ForeignKey("orders.order_id"), nullable=False),
    *required(String(160), "cause"),
    *required(Word, "move", "outcome"),
    *required(Key, "actor"),
    *required(UtcDateTime, "at"),
    *optional(Text, "why"),
    Index("ix_release_moves_cause_at", "cause", "at"),
    Index("ix_release_moves_order_id_outcome", "order_id", "outcome"),
    Index("ix_release_moves_at", "at"),
)

commands = Table(
    "commands",
    metadata,
    Column("command_id", Key, primary_key=True),
    *required(Word, "kind", "state"),
    *required(Key, "target_id", "actor"),
    *required(JsonObject, "arguments"),
    *required(UtcDateTime, "created_at"),
    *optional(UtcDateTime, "claimed_until", "finished_at"),
    *optional(JsonObject(none_as_null=True), "outcome"),
    *optional(UtcDateTime, "not_before"),
    Column("role", Word, nullable=False, server_default="operator"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    *optional(Key, "claimed_by"),
    Index("ix_commands_target_id_created_at", "target_id", "created_at"),
    Index("ix_commands_target_id_kind_created_at", "target_id", "kind", "created_at"),
    Index("ix_commands_created_at", "created_at"),
    Index("ix_commands_waiting", "created_at", **where("state IN ('STORED', 'RUNNING')")),
)

operations = Table(
    "operations",
    metadata,
    Column("operation_id", Key, primary_key=True),
    *required(Word, "verb", "state"),
    *optional(Word, "action"),
    *required(Key, "actor"),
    *optional(Text, "reason", "note"),
    *required(Text, "filter"),
    *required(JsonTexts, "causes"),
    *required(Integer, "total", "unseen"),
    *required(UtcDateTime, "seen_at", "created_at"),
    *required(Integer, "stage", "batch", "in_flight"),
    *required(JsonCounts, "tally"),
    *required(Integer, "new_failures"),
    *optional(UtcDateTime, "waits_until"),
    *optional(Key, "claimed_by"),
    *optional(UtcDateTime, "claimed_until", "ended_at"),
    Index("ix_operations_created_at", "created_at"),
    Index("ix_operations_unended", "created_at", **where("ended_at IS NULL")),
)

operation_items = Table(
    "operation_items",
    metadata,
    Column("operation_id", Key, ForeignKey("operations.operation_id"), primary_key=True),
    Column("item_id", Key, primary_key=True),
    *required(Key, "order_id"),
    *required(Integer, "position", "version"),
    *required(Word, "seen_state", "state"),
    *optional(Integer, "batch"),
    *optional(UtcDateTime, "sent_at", "accepted_at", "settled_at"),
    *optional(Text, "detail"),
    Index("ix_operation_items_operation_id_position", "operation_id", "position"),
    Index("ix_operation_items_operation_id_state", "operation_id", "state"),
    **BY_KEY,
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    *required(UtcDateTime, "at"),
    *required(Key, "actor", "target"),
    *required(Word, "action", "result"),
    *optional(Key, "order_id", "correlation_id"),
    *optional(Text, "reason"),
    *optional(JsonObject(none_as_null=True), "before", "after"),
    Column("action_id", Key, unique=True),
    Index("ix_audit_log_at", "at"),
    Index("ix_audit_log_order_id_at", "order_id", "at"),
    Index("ix_audit_log_actor_at", "actor", "at"),
    Index("ix_audit_log_action_at", "action", "at"),
    Index("ix_audit_log_target_at", "target", "at"),
    Index("ix_audit_log_correlation_id", "correlation_id"),
)

console_looks = Table(
    "console_looks",
    metadata,
    Column("person", Key, primary_key=True),
    Column("looked_at", UtcDateTime, nullable=False, index=True),
    **BY_KEY,
)
