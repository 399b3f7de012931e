"""The Python bodies of the scripts beside this file."""
