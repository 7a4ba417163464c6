"""Processes of the tests that nothing supervises: they end with the test, however the test ends."""

from __future__ import annotations

import subprocess

MORTAL = ("setpriv", "--pdeathsig", "KILL")
"""Before a command: as the thread that starts it ends, the process is killed."""

STOP_SECONDS = 15.0


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM; killed, and the test failed, when it takes longer than it may."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
