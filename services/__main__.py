"""``python -m services worker``: the integration service without the console."""

from __future__ import annotations

import argparse
import sys

from services import logs
from services.domain.errors import ConfigurationError
from services.settings import Settings


def main() -> int:
    """Run a command; a wrong setting is one line on standard error and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m services", description=__doc__)
    parser.add_subparsers(dest="command", required=True).add_parser("worker", help="run the integration service")
    parser.parse_args()
    try:
        settings = Settings.load()
        logs.configure(settings.log_level)
        return _run_worker(settings)
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _run_worker(settings: Settings) -> int:
    from services.process import run
    from services.standalone import serve_with_stack

    run(lambda stop: serve_with_stack(settings, stop), is_supervised=settings.holdfast_supervised)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
