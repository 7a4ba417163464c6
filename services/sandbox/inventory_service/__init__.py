"""A reference Inventory Service: a real service, with its own process, database and events.

It replaces a real Inventory Service in sandbox mode and in tests, and can be the basis of a new one. It shares no
table and no object with the Order Service: they communicate only by HTTP and NATS.
"""
