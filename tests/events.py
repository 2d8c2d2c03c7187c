"""Reads TensorBoard's event files back."""

import io
import struct

import numpy as np
from PIL import Image

from gluon_ran import _runtime


def read_events(folder):
    """(step, tag, value) of each summary in the files of a folder, in the order of writing."""
    _runtime.load_mxboard()
    from mxboard.proto.event_pb2 import Event

    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        with path.open("rb") as file:
            while True:
                head = file.read(12)  # a length and its checksum
                if not head:
                    break
                event = Event.FromString(file.read(struct.unpack("<Q", head[:8])[0]))
                file.read(4)
                for value in event.summary.value:
                    yield event.step, value.tag, value


def images(folder, tag):
    """(step, uint8 (height, width, 3)) of each picture under a tag."""
    return [
        (step, np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string))))
        for step, name, value in read_events(folder)
        if name == tag
    ]
