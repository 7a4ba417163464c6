"""A child's log is bounded while the child runs, not only when it starts."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from services.base.child_process import bound_log


def test_a_log_that_has_grown_is_set_aside_while_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    writer = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        for round_number in range(3):
            os.write(writer, b"%d" % round_number * 150)
            bound_log(path, limit=100)
            assert path.stat().st_size == 0
            assert path.with_suffix(".log.1").read_bytes() == b"%d" % round_number * 150
        os.write(writer, b"goes on")
        bound_log(path, limit=100)
    finally:
        os.close(writer)
    assert path.read_bytes() == b"goes on"
    assert stat.S_IMODE(path.with_suffix(".log.1").stat().st_mode) == 0o600


def test_a_log_that_is_not_there_is_no_mistake(tmp_path: Path) -> None:
    bound_log(tmp_path / "worker.log")
    assert list(tmp_path.iterdir()) == []
