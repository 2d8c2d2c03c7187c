"""Small RecordIO files for the tests, by MXNet's own writer."""

import io

from pictures import picture

import mxnet as mx

NAMES = ("blue", "green", "red")


def encode(image, kind="JPEG", **settings):
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    return stream.getvalue()


def write(rec, records):
    """Writes (label, encoded picture) pairs; the .rec file."""
    rec.parent.mkdir(exist_ok=True)
    writer = mx.recordio.MXIndexedRecordIO(str(rec.with_suffix(".idx")), str(rec), "w")
    for number, (label, encoded) in enumerate(records):
        header = mx.recordio.IRHeader(0, float(label), number, 0)
        writer.write_idx(number, mx.recordio.pack(header, encoded))
    writer.close()
    return rec


def some(count, kind="PNG"):
    """Pictures of different sizes; each one's label is its place."""
    return [
        (n, encode(picture(NAMES[n % 3], n, 10 + n % 7, 30 - n % 11), kind)) for n in range(count)
    ]
