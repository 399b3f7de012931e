"""Decisions: what to fetch from whom, whom to serve, whom to connect to. Pure, no I/O."""
