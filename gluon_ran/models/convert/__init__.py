"""Weights of other implementations as ours: `python -m gluon_ran.models.convert --help`."""

from gluon_ran.models.convert.files import (
    convert,
    load_converted,
    load_foreign,
    save_converted,
)
from gluon_ran.models.convert.mapping import Conversion, convert_arrays
from gluon_ran.models.convert.ports import PORTS, Port
from gluon_ran.models.convert.reading import ConversionError, read_arrays

__all__ = [
    "PORTS",
    "Conversion",
    "ConversionError",
    "Port",
    "convert",
    "convert_arrays",
    "load_converted",
    "load_foreign",
    "read_arrays",
    "save_converted",
]
