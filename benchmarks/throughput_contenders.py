"""Who takes part in throughput.py: every form of a network, and how its process is started."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Union

from provenance import cpu_info

ENGINE_VARIABLE = "MXNET_EXEC_INPLACE_GRAD_SUM_CAP"
JOBS = ("training", "inference")

# glibc gives large arrays back to the system and gets them anew, page by page; MXNet keeps its own.
_KEEP_MEMORY = {name: str(1 << 33) for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")}

_IN_GLUONCV = {
    *(f"attention{depth}" for depth in (56, 92, 128, 164, 236, 452)),
    *(f"cifar_attention{depth}" for depth in (56, 92, 452)),
}


class Form(NamedTuple):
    """What a library makes of a network.

    Attributes:
        what: in words.
        precision: of its convolutions: "float32", "bfloat16" or "int8".
        jobs: what it can do, of `JOBS`.
        engine: the module that computes.
        name: what that module calls the form.
    """

    what: str
    precision: str
    jobs: tuple[str, ...]
    engine: str
    name: str


def _mxnet(name: str, precision: str, what: str, jobs: tuple[str, ...] = JOBS) -> Form:
    return Form(what, precision, jobs, "throughput_mxnet", name)


def _torch(name: str, precision: str, what: str, jobs: tuple[str, ...] = JOBS) -> Form:
    return Form(f"equal network in PyTorch, {what}", precision, jobs, "throughput_torch", name)


FORMS = {
    "gluoncv": _mxnet("gluoncv", "float32", "GluonCV's network, float32, static graph"),
    "plain": _mxnet("plain", "float32", "ours, float32, BilinearResize2D, hybridize()"),
    "float32": _mxnet("float32", "float32", "ours as gluon_ran trains it in float32"),
    "bfloat16": _mxnet("bfloat16", "bfloat16", "ours as gluon_ran trains it in bfloat16"),
    "fused-float32": _mxnet(
        "fused-float32", "float32", "ours, deploy.optimize in float32", ("inference",)
    ),
    "fused-bfloat16": _mxnet(
        "fused-bfloat16", "bfloat16", "ours, deploy.optimize in bfloat16", ("inference",)
    ),
    "int8": _mxnet("int8", "int8", "ours, deploy.optimize in int8", ("inference",)),
    "onnx-float32": Form(
        "our ONNX file in ONNX Runtime", "float32", ("inference",), "throughput_onnx", "float32"
    ),
    "torch-float32": _torch("float32", "float32", "float32"),
    "torch-bfloat16": _torch("bfloat16", "bfloat16", "bfloat16 autocast"),
    "torch-folded-float32": _torch(
        "folded-float32", "float32", "float32, BatchNorm folded", ("inference",)
    ),
    "torch-folded-bfloat16": _torch(
        "folded-bfloat16", "bfloat16", "bfloat16, BatchNorm folded", ("inference",)
    ),
}


@dataclass(frozen=True)
class Contender:
    """A network in a form, with something to do.

    Attributes:
        model: gluon_ran's name of the network.
        form: one of `FORMS`.
        job: one of `JOBS`.
        batch_size: pictures a batch.
        size: height and width of the pictures in pixels; None for the network's own.
    """

    model: str
    form: str
    job: str = "training"
    batch_size: int = 64
    size: tuple[int, int] | None = None

    def __str__(self) -> str:
        size = " at {}x{}".format(*self.size) if self.size else ""
        return f"{self.model}{size} {self.form}"

    @property
    def network(self) -> str:
        """The name that the zoo it comes from has for it."""
        if self.form == "gluoncv":
            return self.model.replace("attention", "residualattentionnet")
        return self.model

    @property
    def precision(self) -> str:
        """Of the convolutions."""
        return FORMS[self.form].precision

    @property
    def cost(self) -> float:
        """About what a batch costs, in training on a picture of 32x32; depth aside."""
        edge = 32 if self.model.startswith("cifar") else 224
        height, width = self.size or (edge, edge)
        return self.batch_size * height * width / 32**2 / (3 if self.job == "inference" else 1)

    @property
    def in_torch(self) -> bool:
        """Whether it lives in PyTorch's environment."""
        return FORMS[self.form].engine == "throughput_torch"

    @property
    def has_equals(self) -> bool:
        """Whether others have the same network, so that it can be compared with a reference."""
        return self.form != "gluoncv" and self.size is None

    @property
    def needs_reference(self) -> bool:
        """Whether it can't do without: a network served has weights, PyTorch's gets a Spec too."""
        return self.has_equals and (self.in_torch or self.job == "inference")

    def obstacle(self, torch_python: Path | None = None) -> str | None:
        """Why it can't take part on this machine, or None.

        Args:
            torch_python: the Python that has PyTorch.
        """
        flags = cpu_info().get("flags", "").split()
        if self.precision == "bfloat16" and not {"avx512_bf16", "amx_bf16"} & set(flags):
            return "the CPU has neither avx512_bf16 nor amx_bf16"
        if self.form == "gluoncv" and self.model not in _IN_GLUONCV:
            return "GluonCV has no such network"
        if FORMS[self.form].engine == "throughput_onnx":
            missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
            if missing:
                return f"{' and '.join(missing)} not installed: pip install 'gluon_ran[onnx]'"
        if self.in_torch and torch_python is None:
            return "no --torch-python was given"
        return None

    def command(self, torch_python: Path | None, reference: Path | None, warmup: int) -> list[str]:
        """What starts its process.

        Args:
            torch_python: the Python that has PyTorch.
            reference: folder of the network to be compared with; None if there is none.
            warmup: batches behind the first, ahead of any timing.
        """
        form = FORMS[self.form]
        python = str(torch_python) if self.in_torch else sys.executable
        line = [python, _WORKER, form.engine, self.job, form.name, f"--model={self.model}"]
        line += [f"--batch-size={self.batch_size}", f"--warmup={warmup}"]
        line += [f"--reference={reference}"] if reference and self.has_equals else []
        return line + (["--size", *map(str, self.size)] if self.size else [])

    def environment(self) -> dict[str, str]:
        """The variables of its process."""
        variables = {**_with_threads(), ENGINE_VARIABLE: "1"}
        if self.form == "gluoncv":
            # Its training graph can't be built under gluon_ran's 1; 8 is MXNet's own default.
            variables[ENGINE_VARIABLE] = "8"
        if self.in_torch:
            variables.update(_KEEP_MEMORY)
            variables.pop("PYTHONPATH", None)  # of this environment, not of PyTorch's
        return variables


@dataclass(frozen=True)
class Product:
    """The machine's ceiling: oneDNN's matrix product in a precision.

    Attributes:
        precision: "float32", "bfloat16" or "int8".
    """

    precision: str
    cost = 64.0

    def __str__(self) -> str:
        return f"matrix product {self.precision}"

    def command(self, torch_python: Path | None, reference: Path | None, warmup: int) -> list[str]:
        """What starts its process; see `Contender.command`."""
        form = [_WORKER, "throughput_products", "product", self.precision]
        return [sys.executable, *form, f"--warmup={warmup}"]

    def environment(self) -> dict[str, str]:
        """The variables of its process."""
        return _with_threads()


Entrant = Union[Contender, Product]
_WORKER = str(Path(__file__).with_name("throughput_worker.py"))


def _with_threads() -> dict[str, str]:
    """This process's variables, which gluon_ran has given the number of threads, if it could."""
    return {"OMP_NUM_THREADS": str(os.cpu_count()), **os.environ}
