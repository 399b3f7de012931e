"""What a torrent is: bytes of .torrent files and magnets to values and back. Pure."""
