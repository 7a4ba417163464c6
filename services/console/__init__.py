"""What the pages read and write, one module a topic; see services.console.facade."""
