"""The networks: what they are (spec), how they are built (network), by name, and their cost."""

from gluon_ran.models.attention_maps import AttentionMaps
from gluon_ran.models.baseline import Baseline, list_baselines
from gluon_ran.models.by_name import get_attention_cifar, get_attention_net, get_model
from gluon_ran.models.card import Card, read_card, save_with_card
from gluon_ran.models.network import ResidualAttentionNet
from gluon_ran.models.pretrained import find_pretrained, list_pretrained
from gluon_ran.models.spec import Spec
from gluon_ran.models.specs import SPECS, list_models
from gluon_ran.models.summary import ModelSummary, summary
from gluon_ran.models.weights import WeightsError, check_weights, load_weights
from gluon_ran.models.zoo import build, change_spec, find_spec, spec_from_json

__all__ = [
    "SPECS",
    "AttentionMaps",
    "Baseline",
    "Card",
    "ModelSummary",
    "ResidualAttentionNet",
    "Spec",
    "WeightsError",
    "build",
    "change_spec",
    "check_weights",
    "find_pretrained",
    "find_spec",
    "get_attention_cifar",
    "get_attention_net",
    "get_model",
    "list_baselines",
    "list_models",
    "list_pretrained",
    "load_weights",
    "read_card",
    "save_with_card",
    "spec_from_json",
    "summary",
]
