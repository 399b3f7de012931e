"""Byte streams to peers and web seeds: the only package that opens connections to them."""
