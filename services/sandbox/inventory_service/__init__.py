"""A reference Inventory Service: a real service, with its own process, database and events.

It stands in for a real Inventory Service in sandbox mode and in tests, and is meant as a
place to start from. It shares no table and no object with the Order Service: they meet on HTTP
and on NATS only.
"""
