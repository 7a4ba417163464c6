"""A port that stays the same as long as it can."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from services.base.addresses import PORTS, free_port


def test_the_port_is_kept(tmp_path: Path) -> None:
    port = free_port(tmp_path / "port")
    assert port in PORTS
    assert free_port(tmp_path / "port") == port


def test_a_taken_port_is_replaced_and_the_new_one_kept(tmp_path: Path) -> None:
    port = free_port(tmp_path / "port")
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        other = free_port(tmp_path / "port")
    assert other != port
    assert free_port(tmp_path / "port") == other


@pytest.mark.parametrize("text", ["", "nonsense", "-1", "99999999"])
def test_an_unreadable_file_is_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "port").write_text(text)
    assert free_port(tmp_path / "port") in PORTS
