"""Messages about events of routes (pure), and their delivery to Slack, webhooks and CloudEvents (I/O)."""
