"""``python -m services.sandbox.inventory_service``: the reference Inventory Service as a process."""

from __future__ import annotations

from services.base import logs
from services.http_server.process import run
from services.sandbox.inventory_service.service import serve
from services.sandbox.settings import InventorySettings, loaded


def main() -> None:
    """Run the service until it is stopped."""
    settings = loaded(InventorySettings)
    logs.configure("WARNING")
    run(lambda stop: serve(settings, stop), is_supervised=settings.is_supervised)


if __name__ == "__main__":
    main()
