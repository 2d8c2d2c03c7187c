"""The networks: what they are (spec), how they are built (network), by name (zoo), their cost."""

from gluon_ran.models.baseline import Baseline, list_baselines
from gluon_ran.models.network import ResidualAttentionNet
from gluon_ran.models.spec import SPECS, Spec, list_models
from gluon_ran.models.summary import ModelSummary, summary
from gluon_ran.models.weights import WeightsError, load_weights
from gluon_ran.models.zoo import (
    build,
    find_spec,
    get_attention_cifar,
    get_attention_net,
    get_model,
    spec_from_json,
)

__all__ = [
    "SPECS",
    "Baseline",
    "ModelSummary",
    "ResidualAttentionNet",
    "Spec",
    "WeightsError",
    "build",
    "find_spec",
    "get_attention_cifar",
    "get_attention_net",
    "get_model",
    "list_baselines",
    "list_models",
    "load_weights",
    "spec_from_json",
    "summary",
]
