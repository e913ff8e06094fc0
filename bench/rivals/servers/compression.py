"""Compressed messages (permessage-deflate), as WebSocket servers offer them.

The window is that of the last half dozen slices, for a dozen KB a connection. A wider
one saves nothing more, and costs time in the processor's caches.
"""

from __future__ import annotations

import os

from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory


def extensions() -> list[ServerPerMessageDeflateFactory]:
    """Return what a server offers, given `COMPRESSION` in its environment."""
    if not os.environ.get("COMPRESSION"):
        return []
    settings = {"level": 4, "memLevel": 4}
    return [
        ServerPerMessageDeflateFactory(
            server_max_window_bits=10, compress_settings=settings
        )
    ]
