"""Residual Attention Networks for Apache MXNet Gluon."""

from gluon_ran import _runtime  # noqa: F401  (first: it makes `import mxnet` work)
from gluon_ran.models import (
    ResidualAttentionNet,
    Spec,
    find_pretrained,
    get_attention_cifar,
    get_attention_net,
    get_model,
    list_baselines,
    list_models,
    list_pretrained,
    load_weights,
    summary,
)
from gluon_ran.training import Recipe, evaluate, fit, get_recipe

__version__ = "0.1.0"

__all__ = [
    "Recipe",
    "ResidualAttentionNet",
    "Spec",
    "evaluate",
    "find_pretrained",
    "fit",
    "get_attention_cifar",
    "get_attention_net",
    "get_model",
    "get_recipe",
    "list_baselines",
    "list_models",
    "list_pretrained",
    "load_weights",
    "summary",
]
