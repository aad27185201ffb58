"""Who may do what (tokens, roles, sessions), and the audit log of what was done (pure)."""
