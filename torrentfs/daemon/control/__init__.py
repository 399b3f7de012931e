"""HTTP into a running mount: a Unix socket, and TCP if it is asked for. See docs/api.md."""
