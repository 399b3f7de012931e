"""What the kernel sees: a read-only tree of torrents, answered from memory but for `read`."""
