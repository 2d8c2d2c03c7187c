"""What the zoo's names stand for, of the family and of GluonCV's, and the networks of that."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, Callable

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.models.baseline import BASELINES, Baseline
from gluon_ran.models.network import ResidualAttentionNet
from gluon_ran.models.spec import Spec, change
from gluon_ran.models.specs import SPECS

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
    names = (*SPECS, *BASELINES)
    if name not in names:
        hint = did_you_mean(name, names) or f"; there are: {', '.join(names)}"
        raise ValueError(f"no model is called {name!r}{hint}")
    return change_spec(SPECS[name] if name in SPECS else Baseline(name), classes, **changes)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of a message that tells which of the names were perhaps meant; empty if none."""
    close = get_close_matches(name, names, 3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


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
