"""Folders of small pictures for the tests."""

import struct
import zlib

import numpy as np
from PIL import Image

COLOURS = {"blue": 2, "green": 1, "red": 0}


def picture(name, seed, height=20, width=24):
    """Noise whose brightest channel is the class's."""
    rng = np.random.default_rng((sum(map(ord, name)), seed))
    pixels = rng.integers(0, 100, (height, width, 3), dtype=np.uint8)
    pixels[..., COLOURS.get(name, seed % 3)] += 120
    return Image.fromarray(pixels)


def deep_png(pixels, transparent=None):
    """A PNG of 16 bits of grey, (H, W), or a colour, (H, W, 3); written by hand, as not all Pillows
    write each."""
    height, width, *colours = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2 if colours else 0, 0, 0, 0))]
    chunks += [] if transparent is None else [(b"tRNS", struct.pack(">H", transparent))]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def fill(folder, counts, suffix=".png"):
    """Writes so many pictures of each class; the folder."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture(name, number).save(folder / name / f"{number:03d}{suffix}")
    return folder


def break_some(folder):
    """Adds broken files of several kinds; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, kind in (("cut.jpg", "JPEG"), ("cut.png", "PNG")):
        picture("red", 99).save(folder / name, kind)
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("not a picture")
    (folder / "nowhere.png").symlink_to(folder / "is" / "not")
    return ["cut.jpg", "cut.png", "empty.jpg", "nowhere.png", "text.jpg"]
