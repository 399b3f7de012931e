"""Libraries as media servers see them: a real mount, looked at from outside with find(1)."""
