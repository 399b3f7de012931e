"""torrentfs mounts a torrent as a directory; each read fetches just the pieces it needs."""

__version__ = "0.1.0"
