"""Consumers: the code that shows a stream (PROTOCOL.md §3).

`cursor` is a reader's place in the log, `links` are the connections, `asks` what is
asked on them, `answers` what the server said, `state` what all of these keep, and
`machine` all of that: pure, and held to the vectors in tests/conformance, as every
client is. `wire` is the frames, `sockets` a WebSocket, `events` what the application is
told; `shell` does what the machine commands, and `aio` is what an application reads.
"""
