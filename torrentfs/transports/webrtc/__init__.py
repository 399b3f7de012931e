"""WebRTC data channels: browsers as peers, by way of a worker process."""
