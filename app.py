"""Streamlit entry point: ``streamlit run app.py`` starts the console, the worker and the embedded parts."""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st

from services.base.addresses import without_credentials
from services.base.file_descriptors import raise_limit
from services.base.settings import Settings
from services.domain.errors import ConfigurationError
from services.http_server.process import ensure_free, ensure_writable
from services.runtime.stack import Stack

HERE = Path(__file__).resolve().parent


@asynccontextmanager
async def lifespan(_: object) -> AsyncIterator[None]:
    """Start the worker and the embedded parts, and stop them when the console stops."""
    import pandas  # noqa: F401, ICN001 - imported here so that the first page loads faster
    import pyarrow  # noqa: F401, ICN001

    if settings.prometheus_url:
        import prometheus_api_client  # noqa: F401

    stack = Stack(settings, with_worker=True)
    await stack.start()
    # The garbage collector skips frozen objects.
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        await stack.stop()


raise_limit()
try:
    settings = Settings.load()
    ensure_free(settings.api_host, settings.api_port)
    ensure_writable(settings.data_dir)
except ConfigurationError as error:
    sys.stderr.write(f"{without_credentials(str(error))}\n")
    raise SystemExit(2) from None

app = st.App(HERE / "pages" / "main.py", lifespan=lifespan)
