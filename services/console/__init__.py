"""Reads and writes of the pages, one module a topic; services.console.facade joins them."""
