"""Media servers on a mount: real programs, real files."""
