"""Notifications about route events: messages (pure) and their delivery (I/O)."""
