"""One mount as a process: its configuration, life, log and signals, in front or behind."""
