"""Residual Attention Networks for Apache MXNet Gluon."""

from gluon_ran import _runtime  # noqa: F401  (first: it makes `import mxnet` work)

__version__ = "0.1.0"
