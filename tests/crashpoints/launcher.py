"""``python -m tests.crashpoints.launcher``: forks Holdfast's processes, each with its points to die at.

One line of JSON on standard input, ``{role, environment, log}``, is answered by the process id on
standard output. Everything is imported once, so that a life costs a fraction of a second. The children
end with this process.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

import alembic.autogenerate
import alembic.command
import alembic.config
import alembic.runtime.migration

from services import worker
from services.base import logs
from services.base.settings import Settings
from services.console.facade import Console
from services.http_server.process import run
from services.sandbox import payment_gateway
from services.sandbox.inventory_service import __main__ as inventory_service
from services.sandbox.settings import InventorySettings, PaymentSettings
from tests.crashpoints import seams

PR_SET_PDEATHSIG = 1

CLICK, CLICK_DONE = "store the command", "answer the browser"


def run_worker(given: seams.Seams) -> None:
    seams.install_in_database(given)
    seams.install_in_transport(given)
    seams.install_in_relay(given)
    seams.shift_the_clock(float(os.environ.get("CRASH_CLOCK", "0")))
    seams.hurry_redeliveries()
    run(lambda stop: worker.serve(Settings.load(), stop), is_supervised=False)


def run_inventory(given: seams.Seams) -> None:
    seams.install_in_database(given)
    seams.install_in_availability(given)
    seams.hurry_redeliveries()
    run(lambda stop: inventory_service.serve(InventorySettings(), stop), is_supervised=False)


def run_payments(given: seams.Seams) -> None:
    seams.install_in_database(given)
    run(lambda stop: payment_gateway.serve(PaymentSettings(), stop), is_supervised=False)


def run_console(given: seams.Seams) -> None:
    """One click: a command stored under the key that the dialog made."""
    from state.engine.source import Source

    write = Source.write

    def watched(self: Source, transaction: Any) -> Any:
        given.passes(CLICK, seams.BEFORE)
        result = write(self, transaction)
        given.passes(CLICK, seams.AFTER)
        return result

    Source.write = watched  # type: ignore[method-assign]
    click = json.loads(os.environ["CRASH_CLICK"])
    Console(Settings.load()).access.store_command(**click)
    given.passes(CLICK_DONE, seams.AFTER)


ROLES: dict[str, Callable[[seams.Seams], None]] = {
    "worker": run_worker,
    "inventory": run_inventory,
    "payments": run_payments,
    "console": run_console,
}


def become(role: str, environment: dict[str, str], log: str) -> None:
    """What the forked child does, to its end."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(environment)
    logs.configure("WARNING")
    ROLES[role](seams.seams_of(os.environ))


def main() -> None:
    """Fork until standard input ends."""
    assert alembic.command
    # Children are not waited for: they are gone as soon as they have ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        wanted = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                become(wanted["role"], wanted["environment"], wanted["log"])
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
