"""Figures of a run; matplotlib is imported when the first one is drawn."""

from gluon_ran.visualize.confusion import plot_confusion
from gluon_ran.visualize.curves import plot_curves
from gluon_ran.visualize.masks import mean_masks, plot_masks

__all__ = ["mean_masks", "plot_confusion", "plot_curves", "plot_masks"]
