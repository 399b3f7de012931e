"""Tests of WebRTC: pure formats, the bridge with a worker of paper, the worker, and both."""
