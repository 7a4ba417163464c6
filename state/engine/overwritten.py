"""Whether anybody but SQLite has written into an SQLite database file that is in use.

With a write-ahead log SQLite writes into the file itself at checkpoints only, and announces each one before its first
page in the index of the log (the ``-shm`` file). A file that has changed without that was written by another program:
a backup was copied over it. Its pages and those of the log then belong to two different databases.

Source: SQLite, "WAL-mode File Format", section 2.1 (the fields aSalt, nBackfill and nBackfillAttempted).
"""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

Identity = tuple[int, int]

_INDEX_HEADER = 136
_SALTS, _DONE, _BEGUN = slice(32, 40), slice(96, 100), slice(128, 132)


def identity_of(path: Path) -> Identity | None:
    """Which file stands under a name."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@dataclass(frozen=True, slots=True)
class _Checkpoints:
    """How far the log was written back: changes with every checkpoint, before it writes."""

    salts: bytes
    """Of the log; others after each time it begins anew."""
    begun: bytes
    done: bytes

    @property
    def is_under_way(self) -> bool:
        """Or was interrupted: pages are written without a further announcement."""
        return self.begun != self.done


class _Index:
    """The index of a log, open for reading.

    One per process and file, closed by its last user only: to close any handle of a file ends all locks that the
    process has on it, SQLite's own among them.
    """

    _lock = threading.Lock()
    _open: dict[Identity, _Index] = {}  # noqa: RUF012 - shared on purpose

    def __init__(self, handle: int, identity: Identity) -> None:
        self.identity = identity
        self._handle = handle
        self.users = 0

    @classmethod
    def of(cls, path: Path) -> _Index | None:
        """The index under this name; None while there is none. To be given back with release()."""
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
    """What was seen at one instant."""

    checkpoints: _Checkpoints
    stamp: tuple[int, int] | None
    """Size and time of the file."""
    log: Identity | None


class WriteWatch:
    """Looks at one database file while connections to it are open.

    A foreign write in the same instant as a checkpoint, between two looks, is taken for a part of it.
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
        """The file is at this instant what it should be; to be called while a connection is open."""
        with self._lock:
            self._look_anew()

    def is_overwritten(self) -> bool:
        """Whether the file has changed since the last look by anything but a checkpoint."""
        with self._lock:
            known, index = self._known, self._index
            if known is None or index is None:
                return False
            # In this order: a checkpoint that wrote the file by now is seen to have begun.
            stamp, now = self._stamp(), index.checkpoints()
            if stamp is None or (stamp == known.stamp and now == known.checkpoints):
                return False
            is_announced = now != known.checkpoints or now.is_under_way
            # While a connection is open SQLite keeps the index; others take it away to begin anew.
            if stamp != known.stamp and (not is_announced or identity_of(self._shm) != index.identity):
                return True
            self._look_anew()
            return False

    def forget(self) -> None:
        """No connection may be open: SQLite itself may write the log back and remove it."""
        with self._lock:
            self._known = None

    def set_log_aside(self) -> None:
        """Keep the log of the file before it under another name, and leave nothing of it to those who have it open.

        Whoever closes the last connection writes the log back: into the file that was restored.
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
        """To be called after the last connection of the database is closed."""
        with self._lock:
            self._known = None
            if self._index is not None:
                self._index.release()
                self._index = None

    def _look_anew(self) -> None:
        if self._index is None or identity_of(self._shm) != self._index.identity:
            if self._index is not None:
                self._index.release()
            self._index = _Index.of(self._shm)
        # In this order: a checkpoint that begins in between is not known yet when its writes are found.
        self._known = _Look(self._index.checkpoints(), self._stamp(), identity_of(self._log)) if self._index else None

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self._main.stat()
        except OSError:
            return None
        return status.st_size, status.st_mtime_ns
