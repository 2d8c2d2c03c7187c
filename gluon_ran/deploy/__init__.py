"""From a trained network to one that serves, each step with its own proof of equal scores."""

from gluon_ran.deploy.onnx import export_onnx
from gluon_ran.deploy.onnx_model import ExportError

__all__ = ["ExportError", "export_onnx"]
