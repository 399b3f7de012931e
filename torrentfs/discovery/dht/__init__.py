"""The distributed hash table (BEP 5): peers of a torrent without a tracker.

Pure, driven by `now` and a random source: `ids`, `addresses`, `routing`, `calls`, `lookup`,
`tokens`, `storage`, `throttle`, `answers`, `upkeep`, and `protocol`, which joins them into one
object that takes datagrams and gives datagrams. With tasks and sockets: `node`, and `source`, a
torrent's view of it.
"""
