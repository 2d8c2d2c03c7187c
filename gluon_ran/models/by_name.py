"""Networks by name, as they are built or with trained weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Callable

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.models.baseline import BASELINES, Baseline
from gluon_ran.models.network import ResidualAttentionNet
from gluon_ran.models.pretrained import locate, no_weights
from gluon_ran.models.spec import Spec
from gluon_ran.models.specs import DEPTHS, SPECS
from gluon_ran.models.weights import WeightsError, load_weights
from gluon_ran.models.zoo import build, change_spec, find_spec

import mxnet as mx
from mxnet.gluon import HybridBlock, nn

# Fields of a Spec that don't change what trained weights compute.
_FREE = ("name", "source", "dropout", "zero_init", "upsampling")
# Arguments of a BatchNorm that do.
_FIXED = ("axis", "center", "epsilon", "scale")
_SHOWN = 3
# What to do where the classes differ, by whether there are to be any.
_ADVICE = {
    True: " and call load_weights(net, find_pretrained({!r}), new_head=True)",
    False: "; net.features(x) gives the embeddings",
}


def get_model(
    name: str,
    classes: int | None = None,
    norm_layer: Callable[..., HybridBlock] = nn.BatchNorm,
    norm_kwargs: dict[str, Any] | None = None,
    pretrained: bool = False,
    root: str | os.PathLike[str] | None = None,
    ctx: mx.Context | Sequence[mx.Context] | None = None,
    **changes: Any,
) -> HybridBlock:
    """Builds a network of the zoo, not yet initialised or with trained weights.

    Args:
        name: one of `list_models()` or, from GluonCV's zoo, of `list_baselines()`; of trained
            weights one of `list_pretrained(root)`.
        classes: outputs of the classifier; the Spec's own number if None, that of the weights with
            `pretrained`.
        norm_layer: class of every normalisation layer, for example SyncBatchNorm.
        norm_kwargs: its keyword arguments.
        pretrained: load trained weights, proved by their SHA-256.
        root: where these are looked for before the package's own, see `find_pretrained`.
        ctx: device or devices that they are loaded to; the CPU if None.
        **changes: fields of `Spec` to change.

    Raises:
        ValueError: an unknown name or field, or a value that a field does not take.
        WeightsError: there are no trained weights of that name, they are damaged, or of another
            network than the one asked for.
    """
    if not isinstance(pretrained, bool):
        raise ValueError(f"pretrained is {pretrained!r}: give True or False, and root for others")
    if root is not None and not pretrained:
        raise ValueError("root names trained weights: give pretrained=True with it")
    if not pretrained:
        return build(find_spec(name, classes, **changes), norm_layer, norm_kwargs)
    found = locate(name, root)
    if found is None:
        untrained = "; without pretrained it is built untrained" if _in_zoo(name) else ""
        raise WeightsError(f"{no_weights(name, root)}{untrained}")
    weights, card = found
    spec = _agreed(name, card.spec, classes, changes)
    _check_norm(name, norm_kwargs)
    net = build(spec, norm_layer, norm_kwargs)
    contexts = [ctx] if isinstance(ctx, mx.Context) else list(ctx or ())
    try:
        load_weights(net, weights, contexts)
    except WeightsError as error:
        if norm_layer is nn.BatchNorm:
            raise
        raise _other_network(name, f"norm_layer is BatchNorm there ({error})") from None
    return net


def _in_zoo(name: str) -> bool:
    return name in (*SPECS, *BASELINES)


def _agreed(
    name: str, told: Spec | Baseline, classes: int | None, changes: dict[str, Any]
) -> Spec | Baseline:
    """The Spec of weights, with changes that leave the network what it is."""
    asked = told
    if _in_zoo(name):
        asked = find_spec(name, told.classes if classes is None else classes, **changes)
    else:
        asked = change_spec(told, classes, **changes)
    here, there = computing(asked), computing(told)
    different = [
        f"{key} is {there.get(key)} there and {here.get(key)} here"
        for key in {**there, **here}
        if there.get(key) != here.get(key)
    ]
    if different:
        more = f" and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
        advice = _ADVICE[bool(classes)] if here["classes"] != there["classes"] else ""
        raise _other_network(name, ", ".join(different[:_SHOWN]) + more, advice.format(name))
    return change_spec(told, **changes)


def computing(spec: Spec | Baseline) -> dict[str, Any]:
    """The fields that say what a network computes."""
    if isinstance(spec, Baseline):
        return {"name": spec.name, "classes": spec.classes}
    return {key: value for key, value in asdict(spec).items() if key not in _FREE}


def _check_norm(name: str, norm_kwargs: dict[str, Any] | None) -> None:
    fixed = sorted(set(norm_kwargs or {}) & set(_FIXED))
    if fixed:
        raise _other_network(name, f"norm_kwargs set {', '.join(fixed)}, which were not set there")


def _other_network(name: str, difference: str, advice: str = "") -> WeightsError:
    return WeightsError(
        f"the trained weights {name!r} are of another network than the one asked for: "
        f"{difference}; leave that out, or build the network without pretrained{advice}"
    )


def get_attention_net(
    num_layers: int, classes: int | None = None, **settings: Any
) -> ResidualAttentionNet:
    """Builds Attention-`num_layers` with the ImageNet stem; see `get_model`."""
    _check_depth(num_layers)
    return get_model(f"attention{num_layers}", classes, **settings)


def get_attention_cifar(
    num_layers: int, classes: int | None = None, thin: bool = False, **settings: Any
) -> ResidualAttentionNet:
    """Builds the wide or thin Attention-`num_layers` for 32x32 pictures; see `get_model`."""
    _check_depth(num_layers)
    return get_model(f"cifar_attention{num_layers}" + "_thin" * thin, classes, **settings)


def _check_depth(num_layers: int) -> None:
    if num_layers not in DEPTHS:
        raise ValueError(
            f"there is no Attention-{num_layers}; choose one of {', '.join(map(str, DEPTHS))}"
        )
