"""Networks by name: those of the family, and GluonCV's to compare with."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Callable

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.models.baseline import BASELINES, Baseline
from gluon_ran.models.network import ResidualAttentionNet
from gluon_ran.models.spec import Spec, change
from gluon_ran.models.specs import DEPTHS, SPECS

from mxnet.gluon import HybridBlock, nn


def find_spec(name: str, classes: int | None = None, **changes: Any) -> Spec | Baseline:
    """What a network of the zoo is, with fields changed.

    Args:
        name: one of `list_models()` or `list_baselines()`.
        classes: outputs of the classifier; the network's own number if None.
        **changes: fields of `Spec` to change.

    Raises:
        ValueError: an unknown name or field, or a value that a field does not take.
    """
    if name not in (*SPECS, *BASELINES):
        raise ValueError(
            f"no model is called {name!r}; there are: {', '.join((*SPECS, *BASELINES))}"
        )
    return change_spec(SPECS[name] if name in SPECS else Baseline(name), classes, **changes)


def change_spec(
    spec: Spec | Baseline, classes: int | None = None, **changes: Any
) -> Spec | Baseline:
    """A Spec with fields changed, or a Baseline with another number of classes; see `find_spec`."""
    if classes is not None:
        changes["classes"] = classes
    if isinstance(spec, Spec):
        return change(spec, **changes)
    others = sorted(set(changes) - {"classes"})
    if others:
        raise ValueError(
            f"{spec.name} is GluonCV's as it is: it has no {', '.join(others)} to change"
        )
    return replace(spec, **changes)


def build(
    spec: Spec | Baseline,
    norm_layer: Callable[..., HybridBlock] = nn.BatchNorm,
    norm_kwargs: dict[str, Any] | None = None,
) -> HybridBlock:
    """The network that a Spec or Baseline describes, not yet initialised."""
    if isinstance(spec, Baseline):
        return spec.build(norm_layer, norm_kwargs)
    return ResidualAttentionNet(spec, norm_layer, norm_kwargs)


def spec_from_json(text: str) -> Spec | Baseline:
    """What `Spec.to_json` or `Baseline.to_json` wrote.

    Raises:
        ValueError: the text is neither.
    """
    values = json.loads(text)
    if isinstance(values, dict) and "baseline" in values:
        return Baseline.from_json(values)
    return Spec.from_json(text)


def get_model(
    name: str,
    classes: int | None = None,
    norm_layer: Callable[..., HybridBlock] = nn.BatchNorm,
    norm_kwargs: dict[str, Any] | None = None,
    **changes: Any,
) -> HybridBlock:
    """Builds a network of the zoo, not yet initialised.

    Args:
        name: one of `list_models()` or, from GluonCV's zoo, of `list_baselines()`.
        classes: outputs of the classifier; the Spec's own number if None.
        norm_layer: class of every normalisation layer, for example SyncBatchNorm.
        norm_kwargs: its keyword arguments.
        **changes: fields of `Spec` to change.

    Raises:
        ValueError: an unknown name or field, or a value that a field does not take.
    """
    return build(find_spec(name, classes, **changes), norm_layer, norm_kwargs)


def get_attention_net(num_layers: int, classes: int = 1000, **changes: Any) -> ResidualAttentionNet:
    """Builds Attention-`num_layers` with the ImageNet stem; see `get_model`."""
    _check_depth(num_layers)
    return get_model(f"attention{num_layers}", classes, **changes)


def get_attention_cifar(
    num_layers: int, classes: int = 10, thin: bool = False, **changes: Any
) -> ResidualAttentionNet:
    """Builds the wide or thin Attention-`num_layers` for 32x32 pictures; see `get_model`."""
    _check_depth(num_layers)
    return get_model(f"cifar_attention{num_layers}" + "_thin" * thin, classes, **changes)


def _check_depth(num_layers: int) -> None:
    if num_layers not in DEPTHS:
        raise ValueError(
            f"there is no Attention-{num_layers}; choose one of {', '.join(map(str, DEPTHS))}"
        )
