"""What a failed transaction says about the database: decided by codes alone, with a test per code."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from state.engine.transactions import Kind, failure_of, is_locked, is_passing

CODES = [
    ("40001", Kind.BUSY),
    ("40P01", Kind.BUSY),
    ("53300", Kind.BUSY),
    ("53400", Kind.BUSY),
    ("53200", Kind.BUSY),
    ("55P03", Kind.BUSY),
    ("57014", Kind.BUSY),
    ("53100", Kind.UNUSABLE),
    ("53000", Kind.UNUSABLE),
    ("42501", Kind.UNUSABLE),
    ("58030", Kind.UNUSABLE),
    ("XX001", Kind.UNUSABLE),
    ("F0001", Kind.UNUSABLE),
    ("25006", Kind.LOST),
    ("25P03", Kind.LOST),
    ("57P01", Kind.LOST),
    ("57P02", Kind.LOST),
    ("57P03", Kind.LOST),
    ("57P04", Kind.LOST),
    ("57P05", Kind.LOST),
    ("08000", Kind.LOST),
    ("08003", Kind.LOST),
    ("08006", Kind.LOST),
    ("08P01", Kind.LOST),
    ("28P01", Kind.LOST),
    ("3D000", Kind.LOST),
    ("26000", Kind.LOST),
    ("42P05", Kind.LOST),
    ("23505", Kind.OURS),
    ("22021", Kind.OURS),
    ("22P05", Kind.OURS),
    ("42P01", Kind.OURS),
    ("42601", Kind.OURS),
]

UNDONE = {"40001", "40P01", "25006"}

RESULTS = [
    ("SQLITE_BUSY", Kind.BUSY),
    ("SQLITE_BUSY_SNAPSHOT", Kind.BUSY),
    ("SQLITE_LOCKED", Kind.BUSY),
    ("SQLITE_PROTOCOL", Kind.BUSY),
    ("SQLITE_INTERRUPT", Kind.BUSY),
    ("SQLITE_NOMEM", Kind.BUSY),
    ("SQLITE_READONLY", Kind.LOST),
    ("SQLITE_READONLY_DBMOVED", Kind.LOST),
    ("SQLITE_CANTOPEN", Kind.LOST),
    ("SQLITE_CORRUPT", Kind.LOST),
    ("SQLITE_CORRUPT_INDEX", Kind.LOST),
    ("SQLITE_NOTADB", Kind.LOST),
    ("SQLITE_PERM", Kind.LOST),
    ("SQLITE_IOERR", Kind.UNUSABLE),
    ("SQLITE_IOERR_WRITE", Kind.UNUSABLE),
    ("SQLITE_FULL", Kind.UNUSABLE),
    ("SQLITE_ERROR", Kind.OURS),
    ("SQLITE_CONSTRAINT_UNIQUE", Kind.OURS),
    ("SQLITE_TOOBIG", Kind.OURS),
]


def from_postgresql(state: str) -> DBAPIError:
    error = psycopg.errors.lookup(state)("in words that mean nothing: locked, refused") if known(state) else None
    error = error or psycopg.DatabaseError("words")
    error.sqlstate = state
    return DBAPIError("UPDATE x", None, error)


def known(state: str) -> bool:
    try:
        psycopg.errors.lookup(state)
    except KeyError:
        return False
    return True


def from_sqlite(name: str) -> DBAPIError:
    error = sqlite3.OperationalError("words")
    error.sqlite_errorcode = getattr(sqlite3, name)
    return DBAPIError("UPDATE x", None, error)


@pytest.mark.parametrize(("state", "kind"), CODES)
def test_an_sqlstate_decides(state, kind):
    error = from_postgresql(state)
    assert failure_of(error).kind is kind
    assert failure_of(error.orig) == failure_of(error)
    assert failure_of(error).is_undone == (state in UNDONE)
    assert is_passing(error) == (kind is not Kind.OURS)


@pytest.mark.parametrize(("name", "kind"), RESULTS)
def test_a_result_code_of_sqlite_decides(name, kind):
    assert failure_of(from_sqlite(name)).kind is kind
    assert is_passing(from_sqlite(name)) == (kind is not Kind.OURS)


def test_an_error_without_a_code_is_a_server_that_was_not_reached():
    assert failure_of(OperationalError("x", None, psycopg.OperationalError("y"))).kind is Kind.LOST
    assert not is_passing(ValueError("the database is locked"))
    assert not is_passing(IntegrityError("x", None, psycopg.errors.UniqueViolation("y")))


def test_whether_a_file_is_locked_is_not_read_from_words():
    assert not is_locked(sqlite3.OperationalError("database is locked"))
    assert is_locked(from_sqlite("SQLITE_BUSY_RECOVERY").orig)
