"""Figures of runs, and pages of them; matplotlib is imported when the first one is drawn."""

from gluon_ran.visualize.attention import attention_arrays, plot_attention, save_attention_arrays
from gluon_ran.visualize.bars import Bar, plot_bars
from gluon_ran.visualize.confusion import plot_confusion
from gluon_ran.visualize.curves import plot_curves
from gluon_ran.visualize.epochs import Curve, epoch_limits, plot_epochs
from gluon_ran.visualize.lines import Line, plot_lines
from gluon_ran.visualize.masks import masks_image, mean_masks, plot_masks

__all__ = [
    "Bar",
    "Curve",
    "Line",
    "attention_arrays",
    "epoch_limits",
    "masks_image",
    "mean_masks",
    "plot_attention",
    "plot_bars",
    "plot_confusion",
    "plot_curves",
    "plot_epochs",
    "plot_lines",
    "plot_masks",
    "save_attention_arrays",
]
