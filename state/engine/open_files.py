"""Whether an SQLite database in use is still the one under its name.

A file that was renamed or deleted goes on to be written by whoever has it open, and nobody will read what he writes:
after a backup was restored under a running service, for one. One that was overwritten is no whole any more.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from state.engine.overwritten import Identity, WriteWatch, identity_of
from state.engine.transactions import DatabaseReplaced


class OpenFiles:
    """The files of one database as they were when it was opened; once they have changed, that stands."""

    def __init__(self, path: Path) -> None:
        self._paths = (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"))
        self._known: tuple[Identity | None, ...] | None = None
        self._writes = WriteWatch(path)
        self._is_overwritten = False
        self._lock = threading.Lock()
        self.problem: str | None = None
        """What has become of the files; None while they are what they were."""

    def remember(self) -> None:
        """The files that a connection has just opened are those that are meant."""
        with self._lock:
            self._known = self._seen()
        self._writes.remember()

    def watch(self) -> None:
        """A reader has the file open: from now on it is noticed when its content is replaced."""
        if not self._writes.is_watching:
            self._writes.remember()

    def close(self) -> None:
        """To be called after the last connection is closed."""
        self._writes.close()

    def forget(self) -> None:
        """No connection is open: SQLite itself may remove and make files. Of replaced ones the old ones stay known."""
        with self._lock:
            if self.problem is None:
                self._known = None
                self._writes.forget()

    def check(self) -> None:
        """Raise DatabaseReplaced unless the files are those that were opened."""
        if self.problem is None and self._known is not None:
            seen = self._seen()
            if seen != self._known:
                self.problem = self._sentence(seen)
                self.set_log_aside()
        if self.problem is None and self._writes.is_overwritten():
            self._is_overwritten = True
            self.problem = f"The database file {self._paths[0].name} was overwritten while in use"
            self.set_log_aside()
        if self.problem is not None:
            raise DatabaseReplaced(self.problem)

    def set_log_aside(self) -> None:
        """Rename our log where it lies beside another database: SQLite would take it for that one's and damage it."""
        if self._is_overwritten:
            self._writes.set_log_aside()
            return
        with self._lock:
            main, log, index = self._paths
            if self._known is None or identity_of(main) in (None, self._known[0]):
                return
            with suppress(OSError):
                if identity_of(log) == self._known[1]:
                    log.replace(log.with_name(f"{log.name}.old"))
                if identity_of(index) == self._known[2]:
                    index.unlink()

    @property
    def is_log_foreign(self) -> bool:
        """Whether another write-ahead log stands where ours was: closing ours would delete it."""
        if self._is_overwritten:
            # Ours was emptied: closing it finds nothing to write back, and deletes nothing.
            return False
        return self._known is not None and identity_of(self._paths[1]) not in (None, self._known[1])

    def restored(self) -> tuple[int, ...] | None:
        """The present file's identity, size and time; None while there is none or an empty one."""
        try:
            status = self._paths[0].stat()
        except OSError:
            return None
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns) if status.st_size else None

    def _sentence(self, seen: tuple[Identity | None, ...]) -> str:
        known = self._known or seen
        for path, before, now in zip(self._paths, known, seen, strict=True):
            if before != now:
                return f"The database file {path.name} {'is gone' if now is None else 'was replaced'} while in use"
        return "The database file was replaced while in use"

    def _seen(self) -> tuple[Identity | None, ...]:
        return tuple(map(identity_of, self._paths))
