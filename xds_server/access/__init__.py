"""Roles, tokens and sessions, and the audit log of what users did (pure)."""
