"""The real-swarm test kit: seeders, trackers, web servers, liars: bounded context managers.

Everything here runs on loopback, in processes of its own that are ended by their id, and keeps
its files below a directory that the caller gives (pytest's ``tmp_path``).  Tests, ``scripts/bench``
and ``scripts/demo`` share it.
"""
