"""The living thing: sessions, torrents, peers and reads; this package owns the nurseries."""
