"""The real-swarm test kit: real seeders, trackers, web servers and liars, each a bounded context manager.

Everything here runs on loopback, in processes of its own that are ended by their id, and keeps
its files below a directory that the caller gives (pytest's ``tmp_path``).  Tests, ``scripts/bench``
and ``scripts/demo`` share it.
"""
