"""A running mount, controlled by commands, programs and a browser's rules: all of it real."""
