"""Detects that an SQLite database file in use was renamed, deleted, replaced or overwritten.

A process that has a renamed or deleted file open continues to write to it, and these writes are lost: for example when
a backup is restored under a running service. An overwritten file mixes pages of two databases.

With a write-ahead log, SQLite writes to the file itself at checkpoints only. It announces each checkpoint in the index
of the log (the ``-shm`` file) before its first page. A file that changed without this was written by another program.
See SQLite, "WAL-mode File Format", section 2.1 (the fields aSalt, nBackfill and nBackfillAttempted).
"""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from state.engine.transactions import DatabaseReplaced

Identity = tuple[int, int]

_INDEX_HEADER = 136
_SALTS, _DONE, _BEGUN = slice(32, 40), slice(96, 100), slice(128, 132)


def identity_of(path: Path) -> Identity | None:
    """Device and inode of the file at a path; None when there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@dataclass(frozen=True, slots=True)
class _Checkpoints:
    """Progress of the checkpoints of the log; every checkpoint changes it before it writes."""

    salts: bytes
    """Salts of the log, which change whenever the log restarts."""
    begun: bytes
    done: bytes

    @property
    def is_under_way(self) -> bool:
        """Whether a checkpoint is running or was interrupted; it may write pages without a new announcement."""
        return self.begun != self.done


class _Index:
    """The index of a log, open for reading.

    There is one per process and file, and its last user closes it: closing any handle of a file releases all locks of
    the process on that file, including those of SQLite.
    """

    _lock = threading.Lock()
    _open: dict[Identity, _Index] = {}  # noqa: RUF012 - shared on purpose

    def __init__(self, handle: int, identity: Identity) -> None:
        self.identity = identity
        self._handle = handle
        self.users = 0

    @classmethod
    def of(cls, path: Path) -> _Index | None:
        """The index at this path, None when there is none. The caller must call release()."""
        with cls._lock:
            identity = identity_of(path)
            index = cls._open.get(identity) if identity else None
            if index is None:
                try:
                    handle = os.open(path, os.O_RDONLY)
                except OSError:
                    return None
                status = os.fstat(handle)
                opened = cls(handle, (status.st_dev, status.st_ino))
                index = cls._open.setdefault(opened.identity, opened)
            index.users += 1
            return index

    def release(self) -> None:
        with self._lock:
            self.users -= 1
            if self.users == 0:
                del self._open[self.identity]
                os.close(self._handle)

    def checkpoints(self) -> _Checkpoints:
        header = os.pread(self._handle, _INDEX_HEADER, 0)
        return _Checkpoints(header[_SALTS], header[_BEGUN], header[_DONE])


@dataclass(frozen=True, slots=True)
class _Look:
    """State of the files at one time."""

    checkpoints: _Checkpoints
    stamp: tuple[int, int] | None
    """Size and modification time of the file."""
    log: Identity | None


class WriteWatch:
    """Watches one database file while connections to it are open.

    A foreign write between two checks is missed when a checkpoint happens at the same instant.
    """

    def __init__(self, path: Path) -> None:
        self._main = path
        self._log = path.with_name(f"{path.name}-wal")
        self._shm = path.with_name(f"{path.name}-shm")
        self._lock = threading.Lock()
        self._index: _Index | None = None
        self._known: _Look | None = None

    @property
    def is_watching(self) -> bool:
        return self._known is not None

    def remember(self) -> None:
        """Take the present file as the valid one. Call it while a connection is open."""
        with self._lock:
            self._observe()

    def is_overwritten(self) -> bool:
        """Whether the file changed since the last check other than by a checkpoint."""
        with self._lock:
            known, index = self._known, self._index
            if known is None or index is None:
                return False
            # In this order, so that a checkpoint is read after every write that it made.
            stamp, now = self._stamp(), index.checkpoints()
            if stamp is None or (stamp == known.stamp and now == known.checkpoints):
                return False
            is_announced = now != known.checkpoints or now.is_under_way
            # SQLite keeps the index while a connection is open; another program removes it to start with a new one.
            if stamp != known.stamp and (not is_announced or identity_of(self._shm) != index.identity):
                return True
            self._observe()
            return False

    def forget(self) -> None:
        """Stop watching. No connection may be open: SQLite itself may then write the log back and remove it."""
        with self._lock:
            self._known = None

    def set_log_aside(self) -> None:
        """Copy the log of the overwritten file to another name and empty the original.

        Closing the last connection would write that log back into the restored file.
        """
        with self._lock, suppress(OSError):
            if self._known is None or identity_of(self._log) != self._known.log:
                return
            old = self._log.with_name(f"{self._log.name}.old")
            with self._log.open("r+b") as log:
                self._log.rename(old)
                if self._index is not None and identity_of(self._shm) == self._index.identity:
                    self._shm.unlink()
                copy = old.with_name(f"{old.name}.copy")
                with copy.open("wb") as target:
                    shutil.copyfileobj(log, target)
                copy.replace(old)
                log.truncate(0)

    def close(self) -> None:
        """Release the index. Call it after the last connection of the database is closed."""
        with self._lock:
            self._known = None
            if self._index is not None:
                self._index.release()
                self._index = None

    def _observe(self) -> None:
        if self._index is None or identity_of(self._shm) != self._index.identity:
            if self._index is not None:
                self._index.release()
            self._index = _Index.of(self._shm)
        # In this order, so that a checkpoint that begins in between is not recorded before its writes.
        self._known = _Look(self._index.checkpoints(), self._stamp(), identity_of(self._log)) if self._index else None

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self._main.stat()
        except OSError:
            return None
        return status.st_size, status.st_mtime_ns


class OpenFiles:
    """The files of one database at the time when it was opened; a detected change is permanent."""

    def __init__(self, path: Path) -> None:
        self._paths = (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"))
        self._known: tuple[Identity | None, ...] | None = None
        self._writes = WriteWatch(path)
        self._is_overwritten = False
        self._lock = threading.Lock()
        self.problem: str | None = None
        """The detected change; None while the files are unchanged."""

    def remember(self) -> None:
        """Take the files that a connection has just opened as the valid ones."""
        with self._lock:
            self._known = self._seen()
        self._writes.remember()

    def watch(self) -> None:
        """Watch the content of the file from now on. Call it while a reader has the file open."""
        if not self._writes.is_watching:
            self._writes.remember()

    def close(self) -> None:
        """Stop watching. Call it after the last connection is closed."""
        self._writes.close()

    def forget(self) -> None:
        """Allow SQLite to remove and create files while no connection is open, unless a change was detected."""
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
        """Rename our log when the database file is foreign: SQLite would apply the log to that file and damage it."""
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
        """Whether a foreign write-ahead log is at the path of our log: closing our connection would delete it."""
        if self._is_overwritten:
            # set_log_aside() has emptied our log: closing writes nothing back and deletes nothing.
            return False
        return self._known is not None and identity_of(self._paths[1]) not in (None, self._known[1])

    def restored(self) -> tuple[int, ...] | None:
        """Identity, size and time of the present file; None while it is missing or empty."""
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
