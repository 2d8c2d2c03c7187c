"""Figures of a run; matplotlib is imported when the first one is drawn."""

from gluon_ran.visualize.attention import attention_arrays, plot_attention, save_attention_arrays
from gluon_ran.visualize.confusion import plot_confusion
from gluon_ran.visualize.curves import plot_curves
from gluon_ran.visualize.masks import masks_image, mean_masks, plot_masks

__all__ = [
    "attention_arrays",
    "masks_image",
    "mean_masks",
    "plot_attention",
    "plot_confusion",
    "plot_curves",
    "plot_masks",
    "save_attention_arrays",
]
