"""What a supervisor wrote about its children, read from another process."""

from __future__ import annotations

import json
from pathlib import Path

from services.base.supervisor import ChildState, ChildStatus


def read_status(data_dir: Path) -> list[ChildStatus]:
    """What the supervisor of another process wrote last; empty when there never was one."""
    try:
        rows = json.loads((data_dir / "run" / "children.json").read_text())
    except FileNotFoundError:
        return []
    return [ChildStatus(**row | {"state": ChildState(row["state"])}) for row in rows]
