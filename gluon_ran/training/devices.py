"""The devices that a run uses, and what MXNet's build can do on them."""

from __future__ import annotations

import os

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.training.distributed import DISTRIBUTED

import mxnet as mx


def make_contexts(num_gpus: int | None) -> list[mx.Context]:
    """The devices to train on; of several workers on this machine, each has GPUs of its own.

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
    local = int(os.environ.get("GLUON_RAN_LOCAL_RANK", 0))
    if wanted * (local + 1) > there:
        raise ValueError(
            f"--num-gpus {wanted}: worker {local} of this machine would need GPU "
            f"{wanted * (local + 1) - 1}, and MXNet sees {there}: start fewer workers here"
        )
    return [mx.gpu(wanted * local + i) for i in range(wanted)] or [mx.cpu()]


# What a person may ask for of MXNet's stores, and why it is not to be had.
_REFUSED = {
    "async": "workers would end with weights of their own, and none could go on from where it "
    "stopped, as the optimizer's state lies on the servers",
    "dist_device_sync": "the devices of a worker are summed on the devices in any case",
    "2bit": "compressed gradients are not the batch's, what they leave out is in no checkpoint, "
    "and MXNet has them for no Trainer that updates the weights itself (none with PushPull)",
}
KVSTORES = ("local", "device", "nccl", *DISTRIBUTED)


def check_kvstore(kvstore: str) -> None:
    """Refuses a store that is unknown, does not fit, or that MXNet was built without.

    Raises:
        ValueError: says why, and what to choose.
    """
    if not isinstance(kvstore, str):
        raise ValueError(
            f"kvstore is a {type(kvstore).__name__}: give a name, {', '.join(KVSTORES)}; a process "
            "can have one distributed store alone, and gradient compression (2bit) is refused, "
            f"since {_REFUSED['2bit']}"
        )
    reason = next((why for what, why in _REFUSED.items() if what in kvstore), None)
    if reason is not None:
        raise ValueError(f"kvstore {kvstore}: {reason}; choose dist_sync or horovod")
    if kvstore not in KVSTORES:
        raise ValueError(f"kvstore {kvstore} is none of {', '.join(KVSTORES)}")
    if kvstore == "nccl" and not mx.runtime.Features().is_enabled("NCCL"):
        raise ValueError("--kvstore nccl: this build of MXNet has no NCCL; choose device or local")
