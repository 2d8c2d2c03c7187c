"""The networks: what they are (spec), how they are built (network), what they cost (summary)."""

from gluon_ran.models.network import (
    ResidualAttentionNet,
    get_attention_cifar,
    get_attention_net,
    get_model,
)
from gluon_ran.models.spec import SPECS, Spec, list_models
from gluon_ran.models.summary import ModelSummary, summary

__all__ = [
    "SPECS",
    "ModelSummary",
    "ResidualAttentionNet",
    "Spec",
    "get_attention_cifar",
    "get_attention_net",
    "get_model",
    "list_models",
    "summary",
]
