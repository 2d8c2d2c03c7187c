"""Makes MXNet 1.9.1 import on today's NumPy and CUDA wheels, or says in one sentence why it can't.

`gluon_ran/__init__.py` imports this module first, so that every other module can
simply `import mxnet`. A script that imports both imports gluon_ran first.
"""

from __future__ import annotations

import builtins
import ctypes
import importlib
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

# The GPU build's libraries, each before those that need it. NVIDIA's wheels put
# them where the loader does not look: site-packages/nvidia/<name>/lib.
_CUDA_LIBRARIES = (
    "libcudart.so.11.0",
    "libnvrtc.so.11.2",
    "libnvToolsExt.so.1",
    "libcublasLt.so.11",
    "libcublas.so.11",
    "libcudnn.so.8",
    "libcufft.so.10",
    "libcurand.so.10",
    "libcusolver.so.11",
    "libnccl.so.2",
)

_CPU, _GPU = "pip install 'gluon_ran[cpu]'", "pip install 'gluon_ran[cu112]'"

# What a missing shared library means, by how its name begins.
_MISSING = (
    (
        "libcuda.",
        "libcuda.so.1 is missing, so this machine has no NVIDIA driver: install the driver, "
        f"or change to the CPU build with pip uninstall mxnet-cu112 and {_CPU}",
    ),
    ("libgomp.", "the system library {} is missing: apt-get install libgomp1"),
    ("libquadmath.", "the system library {} is missing: apt-get install libquadmath0"),
    ("libcu", f"the CUDA 11 library {{}} is missing: {_GPU}"),
    ("libn", f"the CUDA 11 library {{}} is missing: {_GPU}"),
    ("", "the shared library {} is missing"),
)


def _check_python() -> None:
    """Name the Python versions that can run MXNet, on one that cannot."""
    if sys.version_info >= (3, 13):
        version = ".".join(map(str, sys.version_info[:2]))
        raise ImportError(f"it needs NumPy 1, so Python 3.8 to 3.12, and this is Python {version}")


def _restore_numpy_names() -> None:
    """Put back the aliases of Python's types which NumPy 1.24 removed.

    mxnet reads numpy.bool as it is imported, mxboard numpy.float for
    precision-recall curves, and gluoncv numpy.float and numpy.int for detection.
    NumPy 1.20 to 1.23 still has them, with a warning at each use; this ends that too.
    """
    import numpy

    if int(numpy.__version__.split(".")[0]) >= 2:
        raise ImportError(f"it cannot use NumPy {numpy.__version__}: pip install 'numpy<2'")
    for name in ("bool", "float", "int"):
        # Not hasattr: that asks NumPy's module __getattr__, which warns.
        vars(numpy).setdefault(name, getattr(builtins, name))


def _has_gpu_wheel() -> bool:
    """Whether a CUDA 11 build of MXNet is installed, without importing it."""
    spec = find_spec("mxnet")
    if spec is None or spec.origin is None:
        return False
    return any(Path(spec.origin).parents[1].glob("mxnet_cu11*.dist-info"))


def _preload_cuda() -> None:
    """Load the CUDA libraries from their wheels, so that libmxnet.so finds them by name.

    One that is in no wheel is left to the loader: a CUDA toolkit may provide it.
    """
    for library in _CUDA_LIBRARIES:
        found = (f for p in sys.path for f in Path(p).glob(f"nvidia/*/lib/{library}"))
        path = next(found, None)
        if path is not None:
            ctypes.CDLL(str(path))


def _set_engine_variables() -> None:
    """Set what the project's speed rests on, where the user has not."""
    # Gradients that several paths feed are added in place, by the operator that has
    # a oneDNN form: a seventh more images a second in bfloat16. MXNet reads it once a process.
    # GluonCV's own residual_attentionnets can't be trained hybridized under it (MXNet's graph
    # pass loses a node); 8, MXNet's default, serves them. Nor can operators without a oneDNN form
    # under static_alloc: in float64 the gradients come out wrong. On GPUs none has one.
    if not _has_gpu_wheel():
        os.environ.setdefault("MXNET_EXEC_INPLACE_GRAD_SUM_CAP", "1")
    # MXNet alone takes half of the processors, as if each core had two threads.
    cores = _physical_cores()
    if cores:
        # train/launch.py tells how many processes share the machine.
        workers = int(os.environ.get("GLUON_RAN_LOCAL_WORKERS", 1))
        os.environ.setdefault("OMP_NUM_THREADS", str(max(cores // workers, 1)))


def _physical_cores() -> int:
    """Cores that this process may use, each counted once; 0 where the system does not tell."""
    try:
        cpus = os.sched_getaffinity(0)
        path = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
        return len({Path(path.format(cpu)).read_text() for cpu in cpus})
    except (AttributeError, OSError):
        return 0


def _keep_one_team_of_threads(mxnet: ModuleType) -> None:
    """Have the importing thread compute alone whatever MXNet computes in it: copies, reorders.

    The engine's own threads have a team of OpenMP threads. With a second team there are more
    threads than cores, and libgomp then lets all of them sleep between operators instead of
    waiting awake for the next one: on two cores a network of small operators trained at 57 % of
    its speed from the first `asnumpy` of an array in oneDNN's layout on.
    """
    library = getattr(getattr(mxnet, "base", None), "_LIB", None)
    set_threads = getattr(library, "omp_set_num_threads", None)
    if set_threads is not None:
        set_threads(1)


@contextmanager
def _out_of_sight(package: str) -> Iterator[None]:
    """Have imports find a package missing, whether or not it is installed."""
    before = sys.modules.get(package)
    sys.modules[package] = None
    try:
        yield
    finally:
        del sys.modules[package]
        if before is not None:
            sys.modules[package] = before


def _import_quietly(name: str) -> ModuleType:
    """Import a package that uses deprecated names by the dozen, and keep its warnings to itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module(name)


def _missing_package(name: str) -> str:
    """What to install where Python finds no package of this name."""
    if name == "mxnet":
        return f"it is not installed: {_CPU}, or {_GPU} for an NVIDIA GPU"
    if name == "distutils":  # left Python with 3.12; setuptools has it
        return "it needs distutils, which this Python does not have: pip install setuptools"
    return f"it needs {name}, which is not installed: pip install {name}"


def _reason(error: Exception) -> str:
    """What stands in the way of MXNet, and what to do about it."""
    text = " ".join(str(error).split())
    library = re.match(r"(\S+\.so\S*): cannot open shared object", text)
    if library:
        name = library.group(1)
        return next(why for start, why in _MISSING if name.startswith(start)).format(name)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _missing_package(error.name)
    if type(error) is ImportError:
        return text
    build = _GPU if _has_gpu_wheel() else _CPU
    return f"{type(error).__name__}: {text} (to install it anew: {build} --force-reinstall)"


def load_mxnet() -> ModuleType:
    """Import MXNet.

    Raises:
        ImportError: MXNet can't be imported; the message is one sentence that
            says why and what to install.
    """
    try:
        _check_python()
        _restore_numpy_names()
        if "mxnet" not in sys.modules and _has_gpu_wheel():
            _preload_cuda()
        _set_engine_variables()
        # MXNet takes a base class of its old FeedForward from it, for a fifth of the time.
        with _out_of_sight("sklearn"):
            mxnet = _import_quietly("mxnet")
        # Uninstalling one build over another leaves a folder without code.
        if not hasattr(mxnet, "__version__"):
            raise ImportError(
                f"its files are incomplete: pip uninstall mxnet mxnet-cu112, then {_CPU} or {_GPU}"
            )
        _keep_one_team_of_threads(mxnet)
    except Exception as error:  # a broken library raises anything from OSError to TypeError
        raise ImportError(f"gluon_ran cannot import MXNet 1.9.1: {_reason(error)}.") from None
    return mxnet


def load_mxboard() -> ModuleType:
    """Import mxboard, which writes TensorBoard's event files.

    Raises:
        ImportError: it is missing, or protobuf is too new for its generated code.
    """
    try:
        return _import_quietly("mxboard")
    except Exception as error:  # protobuf raises TypeError
        reason = "mxboard needs protobuf 3.20: pip install 'mxboard' 'protobuf>=3.20.2,<3.21'"
        text = str(error).partition("\n")[0]
        raise ImportError(f"gluon_ran cannot write event files: {reason} ({text}).") from None


def load_gluoncv() -> ModuleType:
    """Import gluoncv, with PyTorch out of its sight.

    It refuses PyTorch 2 with a RuntimeError, although MXNet is all it needs here.

    Raises:
        ImportError: gluoncv is not installed.
    """
    try:
        with _out_of_sight("torch"):
            return _import_quietly("gluoncv")
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise ImportError(f"gluoncv is missing ({reason}): pip install gluoncv.") from None


load_mxnet()
