"""From a trained network to one that serves, each step with its own proof of equal scores."""

from gluon_ran.deploy.onnx import export_onnx
from gluon_ran.deploy.onnx_model import ExportError
from gluon_ran.deploy.optimize import (
    BOUNDS,
    OptimizedNetwork,
    OptimizeError,
    disagreement,
    optimize,
)

__all__ = [
    "BOUNDS",
    "ExportError",
    "OptimizeError",
    "OptimizedNetwork",
    "disagreement",
    "export_onnx",
    "optimize",
]
