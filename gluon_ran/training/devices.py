"""The devices that a run uses, and what MXNet's build can do on them."""

from __future__ import annotations

from gluon_ran import _runtime  # noqa: F401

import mxnet as mx


def make_contexts(num_gpus: int | None) -> list[mx.Context]:
    """The devices to train on.

    Args:
        num_gpus: how many GPUs, 0 for the CPU; None for one where there is one.

    Raises:
        ValueError: there are fewer GPUs.
    """
    there = mx.context.num_gpus()
    wanted = min(there, 1) if num_gpus is None else num_gpus
    if wanted < 0 or wanted > there:
        build = "" if mx.runtime.Features().is_enabled("CUDA") else ", since its build is for CPUs"
        raise ValueError(
            f"--num-gpus {wanted}: MXNet sees {there} GPUs{build}; choose 0 to {there}"
        )
    return [mx.gpu(i) for i in range(wanted)] or [mx.cpu()]


def check_kvstore(kvstore: str) -> None:
    """Refuses a store that MXNet was built without.

    Raises:
        ValueError: says what to choose.
    """
    if kvstore == "nccl" and not mx.runtime.Features().is_enabled("NCCL"):
        raise ValueError("--kvstore nccl: this build of MXNet has no NCCL; choose device or local")
