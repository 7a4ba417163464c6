"""Addresses of files under any path, and texts that show no credentials."""

from __future__ import annotations

import io
import logging
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, make_url

from services.base.addresses import sqlite_url, without_credentials
from services.base.logs import JsonFormatter, TerminalFormatter
from state.engine.database import sqlite_file

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda name: name.strip(".") != ""
)


@given(name=NAMES)
def test_the_address_of_a_file_leads_back_to_it(name):
    assert sqlite_file(make_url(sqlite_url(Path("/data") / name))) == Path("/data") / name


@pytest.mark.parametrize(
    "name", ["Größe", "a b", "50%", "50%25", "a?b", "a?uri=true", "a#b", "it's", 'say "x"', "a&b", "a\\b"]
)
def test_sqlite_makes_the_file_at_its_address(tmp_path, name):
    path = tmp_path / name / "x.db"
    path.parent.mkdir()
    engine = create_engine(sqlite_url(path))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x)")
    engine.dispose()
    assert [entry.name for entry in path.parent.iterdir()] == ["x.db"]
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


SHOWN = [
    ("see postgresql://u:pw@h/d now", "see postgresql://***@h/d now"),
    ("nats://token@h:4222", "nats://***@h:4222"),
    ("'https://u:p@w@h/x?y'", "'https://***@h/x?y'"),
    ("https://h/x", "https://h/x"),
    ("mail a@b.example", "mail a@b.example"),
    ("nats://a@h,nats://b@i", "nats://***@i"),
]


@pytest.mark.parametrize(("text", "shown"), SHOWN)
def test_addresses_are_shown_without_credentials(text, shown):
    assert without_credentials(text) == shown


@given(password=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\"'<>"), min_size=6))
def test_no_password_is_shown_whatever_its_characters(password):
    assert password not in without_credentials(f"failed: https://x-y:{password}@host/path")


def test_hiding_takes_time_in_proportion_to_the_length():
    began = time.monotonic()
    without_credentials("://" * 300_000 + "@" * 10)
    without_credentials("a://b" * 200_000)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("formatter", [JsonFormatter(), TerminalFormatter()])
def test_no_line_of_the_log_shows_credentials(formatter):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.getLogger("test.credentials")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        raise ValueError("cannot reach nats://pa55word@there")
    except ValueError:
        logger.exception("failed", extra={"url": "https://u:pa55word@there"})
    assert "there" in stream.getvalue()
    assert "pa55word" not in stream.getvalue()
