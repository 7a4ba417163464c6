"""Reads and writes of the pages, one module per topic; services.console.facade combines them."""
