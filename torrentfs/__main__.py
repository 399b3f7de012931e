"""`python -m torrentfs` is the `torrentfs` command."""

from __future__ import annotations

from torrentfs.cli.main import main

if __name__ == "__main__":
    main()
