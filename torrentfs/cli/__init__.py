"""What a person types: options to values, and errors to one line and an exit code."""
