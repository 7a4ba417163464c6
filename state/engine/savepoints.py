"""Work on one row of many within a transaction, so that what fails for one does not undo the others."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


def apart(connection: Connection, work: Callable[[], object]) -> Exception | None:
    """Run ``work`` in a savepoint; returns what it raised, after undoing it.

    A connection that is lost ends the whole transaction: that error is raised.
    """
    connection.exec_driver_sql("SAVEPOINT apart")
    try:
        work()
    except Exception as error:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT apart")
        connection.exec_driver_sql("RELEASE SAVEPOINT apart")
        return error
    connection.exec_driver_sql("RELEASE SAVEPOINT apart")
    return None
