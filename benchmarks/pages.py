"""The CPU of one run of a console page: the readings it asks for, its script, and the bytes of what it sends.

A session without a browser runs the page once and then its fragment as the browser's timer does. CPU is that
of the script's thread; what the server's loop adds per message is its serialisation, measured beside it.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import MagicMock

from services.base.settings import Settings
from services.console.facade import Console, install

ENTRY = Path(__file__).resolve().parents[1] / "pages" / "main.py"
ROUNDS = 40
PAGES = (
    "overview", "breakers", "metrics", "alerts", "orders", "order", "events", "stock", "reviews", "releases",
    "conservation", "handover", "audit", "sandbox",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """What one run cost, in milliseconds of CPU, and what it sent."""

    script: float
    reading: float
    """The part of the script's time in which readings were loaded from the database."""
    serialising: float
    messages: float
    size: float

    @property
    def total(self) -> float:
        return self.script + self.serialising


class Session:
    """One viewer of one page."""

    def __init__(self, page: str = "overview", query: str = "") -> None:
        from streamlit.runtime import Runtime
        from streamlit.runtime.dataframe_source_manager import DataframeSourceManager
        from streamlit.runtime.fragment import MemoryFragmentStorage
        from streamlit.runtime.media_file_manager import MediaFileManager
        from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage
        from streamlit.runtime.pages_manager import PagesManager
        from streamlit.runtime.scriptrunner.script_cache import ScriptCache
        from streamlit.runtime.state import SafeSessionState, SessionState

        runtime = MagicMock(spec=Runtime)
        runtime.media_file_mgr = MediaFileManager(MemoryMediaFileStorage("/media"))
        runtime.dataframe_source_mgr = DataframeSourceManager()
        Runtime._instance = runtime  # noqa: SLF001 - there is no public way to a session without a server
        self._scripts = ScriptCache()
        self._fragments = MemoryFragmentStorage()
        self._pages = PagesManager(str(ENTRY), self._scripts, setup_watcher=False)
        self._state = SafeSessionState(SessionState(), lambda: None)
        self._query = query
        self._hash = ""
        self.open()
        if page != "overview":
            self._hash = next(key for key, info in self._pages.get_pages().items() if info["url_pathname"] == page)
            self.open()

    def open(self) -> Run:
        """The whole page."""
        run = self._run()
        self._hash = self._pages.current_page_script_hash
        return run

    def refresh(self) -> Run:
        """Its fragment, as the timer of a browser asks for it."""
        return self._run(list(self._fragments._fragments))  # noqa: SLF001 - as above

    def _run(self, fragments: list[str] = ()) -> Run:
        from streamlit.runtime.runtime_util import serialize_forward_msg
        from streamlit.runtime.scriptrunner_utils.script_requests import RerunData, ScriptRequests
        from streamlit.testing.v1.local_script_runner import LocalScriptRunner

        class Timed(LocalScriptRunner):
            cpu = 0.0

            def _run_script(self, rerun_data: RerunData) -> None:
                started = time.thread_time()
                super()._run_script(rerun_data)
                self.cpu = time.thread_time() - started

        runner = Timed(str(ENTRY), self._state, self._pages, fragment_storage=self._fragments, user_info={})
        runner._script_cache = self._scripts  # noqa: SLF001 - as above
        # It would begin with a run of the whole page.
        runner._requests = ScriptRequests()  # noqa: SLF001 - as above
        runner.request_rerun(
            RerunData(
                query_string=self._query,
                page_script_hash=self._hash,
                fragment_id_queue=list(fragments),
                is_auto_rerun=bool(fragments),
            )
        )
        Meter.seconds = 0.0
        runner.start()
        runner.join()
        sent = runner.forward_msgs()
        started = time.thread_time()
        size = sum(len(serialize_forward_msg(message)) for message in sent)
        serialising = time.thread_time() - started
        for message in sent:
            if message.delta.new_element.HasField("exception"):
                raise RuntimeError(message.delta.new_element.exception.message)
        return Run(runner.cpu * 1000, Meter.seconds * 1000, serialising * 1000, len(sent), size)


class Meter:
    """How long the readings of the present run took."""

    seconds = 0.0


class Metered(Console):
    """The console, measuring what it loads."""

    def _read(self, key, ttl_seconds, query):
        def timed(connection):
            started = time.thread_time()
            try:
                return query(connection)
            finally:
                Meter.seconds += time.thread_time() - started

        return super()._read(key, ttl_seconds, timed)


def measure(database: str, *, order: str, alive) -> list[tuple[str, Run, Run, Run]]:
    """Per page its first run, a refresh that loads every reading anew, and one that shares them; medians."""
    os.environ.setdefault("STREAMLIT_BROWSER_GATHER_USAGE_STATS", "false")
    console = Metered(Settings.load(database_url=database))
    install(console)
    gc.collect()
    gc.freeze()
    found = []
    for page in PAGES:
        alive()
        session = Session(page, f"order={order}" if page == "order" else "")
        session.refresh()
        opened, cold, warm = [], [], []
        for number in range(ROUNDS):
            console.expire()
            cold.append(session.refresh())
            warm.append(session.refresh())
            if number % 8 == 0:
                opened.append(session.open())
                alive()
        found.append((page, *map(_median, (opened, cold, warm))))
    install(None)
    return found


def _median(runs: list[Run]) -> Run:
    columns = zip(*((r.script, r.reading, r.serialising, r.messages, r.size) for r in runs), strict=True)
    return Run(*(statistics.median(column) for column in columns))
