"""Whether a JPEG is whole: decoders fill what is missing with mid-grey, mostly without a word."""

from __future__ import annotations

import re

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
_START_OF_SCAN = 0xDA
# In the coded data a 0xff is followed by 0x00 or a restart marker; anything else begins a segment.
# Beginning with one plain byte, which re looks for many times as fast as for a repeated one.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def jpeg_end(encoded: bytes) -> int | None:
    """Follows a JPEG's segments to its end mark.

    Returns:
        The bytes up to and with the end mark; None where the segments don't lead to one, so the
        JPEG is cut short or damaged.
    """
    position = 2
    while True:
        while encoded[position : position + 2] == b"\xff\xff":  # fill before a marker
            position += 1
        head = encoded[position : position + 4]
        if head[:2] == JPEG_END:
            return position + 2
        if len(head) < 4 or head[0] != 0xFF:
            return None
        position += 2 + int.from_bytes(head[2:], "big")
        if head[1] == _START_OF_SCAN:
            marker = _MARKER.search(encoded, position)
            if marker is None:
                return None
            position = marker.end() - 2


def is_complete_jpeg(encoded: bytes) -> bool:
    """Whether a JPEG has its end mark, and nothing but zeros behind it."""
    end = jpeg_end(encoded)
    return end is not None and not encoded[end:].strip(b"\0")


def with_more_data(encoded: bytes, end: int) -> bytes:
    """The JPEG with bytes put before its end mark, which a decoder uses only if it lacked some.

    Args:
        encoded: the JPEG.
        end: what `jpeg_end` gives for it.
    """
    return encoded[: end - 2] + b"\x5a" * 512 + JPEG_END
