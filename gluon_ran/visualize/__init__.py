"""Figures of a run; matplotlib is imported when the first one is drawn."""

from gluon_ran.visualize.confusion import plot_confusion
from gluon_ran.visualize.curves import plot_curves

__all__ = ["plot_confusion", "plot_curves"]
