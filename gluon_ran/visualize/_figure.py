"""What all figures share: the sizes of type, the ink, and how a figure reaches the disk."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from gluon_ran._files import atomic_path
from gluon_ran.visualize._fonts import add_fonts

INK, MUTED, FAINT = "#222222", "#666666", "#d9d9d9"
TITLE_PT, LABEL_PT, SMALL_PT = 10, 9, 8
_DPI, _SCREEN_DPI = 200, 110


def new_figure(width: float, height: float) -> Any:
    """An empty figure, in inches, that belongs to no window and changes nothing global."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def set_title(ax: Any, text: str, pad: float) -> None:
    """Writes `text` above `ax`, `pad` points away; a dollar sign in it is just that."""
    ax.set_title(text, loc="left", fontsize=TITLE_PT, color=INK, pad=pad, parse_math=False)


def save_png(figure: Any, path: str | os.PathLike[str], dpi: int = _DPI) -> None:
    """Writes the figure, with all that reaches beyond its edges, at once or not at all.

    Args:
        figure: from `new_figure`.
        path: the PNG; an older one is replaced.
        dpi: dots an inch.

    Raises:
        OSError: the folder is not there or can't be written; names `path`.
    """
    content = _png(figure, dpi)
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(content.getvalue())


def as_array(figure: Any) -> np.ndarray:
    """The figure as `save_png` writes it, for a screen: uint8 (height, width, 3)."""
    from PIL import Image

    with Image.open(_png(figure, _SCREEN_DPI)) as picture:
        return np.asarray(picture.convert("RGB"))


def _png(figure: Any, dpi: int) -> io.BytesIO:
    buffer = io.BytesIO()
    add_fonts(figure)
    with warnings.catch_warnings():
        # add_fonts has told of them.
        warnings.filterwarnings("ignore", "Glyph .* missing|Matplotlib currently does not support")
        # No "Software": the same figure gives the same bytes.
        figure.savefig(
            buffer,
            format="png",
            dpi=dpi,
            bbox_inches="tight",
            pad_inches=0.08,
            metadata={"Software": None},
        )
    buffer.seek(0)
    return buffer
