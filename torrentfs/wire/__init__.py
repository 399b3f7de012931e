"""Bytes to values and back, for everything said to peers and trackers; no I/O, no clock, no chance.

`connection` is the way in: the state of one peer connection without its socket.
"""
