"""gluon_ran/_runtime.py: MXNet imports, or one sentence says why not."""

import _ctypes
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from gluon_ran import _runtime

import mxnet as mx

CPU, GPU = "pip install 'gluon_ran[cpu]'", "pip install 'gluon_ran[cu112]'"
HEAVY = ("gluoncv", "cv2", "matplotlib", "mxboard", "sklearn", "PIL", "pandas", "scipy")


def run(code, folder, **environment):
    """Run code in a fresh Python in which packages in `folder` hide the installed ones."""
    environment = {**os.environ, "PYTHONPATH": str(folder), **environment}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def output(code, folder, **environment):
    """What the code printed; the test fails where the code did or said anything else."""
    result = run(code, folder, **environment)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.strip()


def complaint(folder, code="import gluon_ran"):
    """The one sentence in which the code failed."""
    result = run(code, folder)
    assert result.returncode != 0
    assert "During handling" not in result.stderr and "direct cause" not in result.stderr
    return result.stderr.strip().splitlines()[-1]


def fake_package(folder, name, code):
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(code)


def cannot_open(library):
    message = f"{library}: cannot open shared object file: No such file or directory"
    return f"raise OSError({message!r})"


@pytest.mark.parametrize(
    "code, parts",
    [
        (cannot_open("libcuda.so.1"), ["libcuda.so.1", "NVIDIA driver", CPU]),
        (cannot_open("libgomp.so.1"), ["libgomp.so.1", "apt-get install libgomp1"]),
        (cannot_open("libquadmath.so.0"), ["libquadmath.so.0", "apt-get install libquadmath0"]),
        (cannot_open("libcudnn.so.8"), ["libcudnn.so.8", GPU]),
        (cannot_open("libnccl.so.2"), ["libnccl.so.2", GPU]),
        (cannot_open("libfoo.so.3"), ["libfoo.so.3"]),
        ("raise TypeError('weird\\n  trouble')", ["TypeError: weird trouble", CPU]),
        ("raise ImportError('no such name')", ["no such name"]),
        ("import graphviz_", ["graphviz_", "pip install graphviz_"]),
        ("raise ModuleNotFoundError(name='distutils')", ["distutils", "pip install setuptools"]),
        ("", ["incomplete", "pip uninstall mxnet mxnet-cu112", CPU]),
    ],
)
def test_a_broken_mxnet_is_one_sentence(tmp_path, code, parts):
    fake_package(tmp_path, "mxnet", code)
    sentence = complaint(tmp_path)
    assert sentence.startswith("ImportError: gluon_ran cannot import MXNet 1.9.1: ")
    assert sentence.endswith(".")
    assert [part for part in parts if part not in sentence] == []


def test_a_missing_mxnet_names_both_builds(tmp_path):
    sentence = complaint(tmp_path, "import sys; sys.modules['mxnet'] = None; import gluon_ran")
    assert CPU in sentence and GPU in sentence


def test_numpy_2_is_named(tmp_path):
    fake_package(tmp_path, "numpy", "__version__ = '2.1.3'")
    assert "NumPy 2.1.3: pip install 'numpy<2'" in complaint(tmp_path)


def test_a_later_python_is_named(tmp_path):
    code = "import sys; sys.version_info = (3, 13, 0, 'final', 0); import gluon_ran"
    assert "Python 3.8 to 3.12" in complaint(tmp_path, code)


def test_the_gpu_build_finds_its_libraries_in_their_wheels(tmp_path):
    library = tmp_path / "nvidia" / "cudnn" / "lib" / "libcudnn.so.8"
    library.parent.mkdir(parents=True)
    shutil.copy(_ctypes.__file__, library)  # any library will do
    (tmp_path / "mxnet_cu112-1.9.1.dist-info").mkdir()
    fake_package(tmp_path, "mxnet", "__version__ = '1.9.1'\nprint(open('/proc/self/maps').read())")
    # By its path: the package itself goes on to use what a fake MXNet does not have.
    code = f"import runpy; runpy.run_path({_runtime.__file__!r})"
    assert str(library) in output(code, tmp_path)


def test_the_cpu_build_loads_no_cuda_library(tmp_path):
    library = tmp_path / "nvidia" / "cudnn" / "lib" / "libcudnn.so.8"
    library.parent.mkdir(parents=True)
    library.write_text("not a library")
    output("import gluon_ran._runtime", tmp_path)


def test_mxnet_may_come_first(tmp_path):
    code = """
import numpy; numpy.bool = bool  # as whoever imports MXNet alone on NumPy 1.26 has to
import mxnet as mx
from gluon_ran import _runtime
print(_runtime.load_mxnet() is mx, mx.nd.ones(2).sum().asscalar())
"""
    assert output(code, tmp_path) == "True 2.0"


def test_an_import_of_mxnet_that_failed_before_does_no_harm(tmp_path):
    code = """
import warnings
warnings.simplefilter("ignore")
try:
    import mxnet  # fails on NumPy 1.26
except AttributeError:
    pass
import gluon_ran
import mxnet as mx
print(mx.nd.ones(2).sum().asscalar())
"""
    assert output(code, tmp_path) == "2.0"


def test_numpy_has_the_names_that_mxnet_and_mxboard_use():
    assert (np.bool, np.float, np.int) == (bool, float, int)
    assert mx.np.array([1, 2], dtype=np.bool).dtype == np.bool_


def test_engine_variables_are_the_users_where_set(tmp_path):
    code = "import gluon_ran, os; print(os.environ['MXNET_EXEC_INPLACE_GRAD_SUM_CAP'])"
    assert output(code, tmp_path, MXNET_EXEC_INPLACE_GRAD_SUM_CAP="") == ""
    assert output(code, tmp_path, MXNET_EXEC_INPLACE_GRAD_SUM_CAP="5") == "5"


def test_only_the_engine_has_a_team_of_openmp_threads(tmp_path):
    """With a second team of threads, libgomp puts all of them to sleep between operators."""
    code = """
import os
import gluon_ran
import mxnet as mx
x = mx.nd.Convolution(mx.nd.ones((8, 16, 32, 32)), mx.nd.ones((32, 16, 3, 3)), kernel=(3, 3),
                      num_filter=32, no_bias=True)
mx.nd.waitall()
before = len(os.listdir("/proc/self/task"))
x.asnumpy()  # in oneDNN's layout, which this thread has to bring back
print(before > 1, len(os.listdir("/proc/self/task")) - before)
"""
    assert output(code, tmp_path, OMP_NUM_THREADS="4") == "True 0"


def test_importing_is_quiet_and_leaves_the_warning_filters(tmp_path):
    code = """
import numpy, warnings  # NumPy adds filters of its own
warnings.simplefilter("error")
before = list(warnings.filters)
from gluon_ran import _runtime
_runtime.load_mxboard(), _runtime.load_gluoncv()
assert warnings.filters == before, warnings.filters
"""
    output(code, tmp_path)


def test_importing_brings_in_nothing_heavy_that_mxnet_does_not(tmp_path):
    code = f"""
import numpy, sys; numpy.bool = bool
import mxnet  # takes scikit-learn, scipy and cv2 where it finds them
before = set(sys.modules)
import gluon_ran
print([name for name in {HEAVY} if name in set(sys.modules) - before])
"""
    assert output(code, tmp_path) == "[]"


def test_importing_leaves_scikit_learn_alone(tmp_path):
    """MXNet takes it where it finds it, for a fifth of the time of each start."""
    code = """
import sys
import gluon_ran
import mxnet as mx
found = [name for name in sys.modules if name.partition(".")[0] == "sklearn"]
from sklearn.base import BaseEstimator
print(found, issubclass(mx.model.FeedForward, BaseEstimator))
"""
    assert output(code, tmp_path) == "[] False"


def test_every_module_and_gluoncv_work_without_cv2(tmp_path):
    """cv2 needs the system's libGL; an import of it fails here as it does where that is missing."""
    fake_package(tmp_path, "cv2", cannot_open("libGL.so.1").replace("OSError", "ImportError"))
    code = """
import importlib, pkgutil, sys
import gluon_ran
for module in pkgutil.walk_packages(gluon_ran.__path__, "gluon_ran."):
    importlib.import_module(module.name)
from gluon_ran import _runtime
print(hasattr(_runtime.load_gluoncv(), "model_zoo"), "cv2" in sys.modules)
"""
    assert output(code, tmp_path) == "True False"


def test_gluoncv_loads_beside_pytorch_2(tmp_path):
    fake_package(tmp_path, "torch", "__version__ = '2.1.0'\nclass Tensor: pass")
    code = """
import torch
from gluon_ran import _runtime
import sys
print(_runtime.load_gluoncv().__name__, sys.modules["torch"] is torch)
"""
    assert output(code, tmp_path) == "gluoncv True"


def test_mxboard_writes_events(tmp_path):
    with _runtime.load_mxboard().SummaryWriter(logdir=str(tmp_path), verbose=False) as writer:
        writer.add_scalar("loss", 1.5, 1)
        writer.add_histogram("weights", mx.nd.arange(100), global_step=1)
        writer.add_image("mask", mx.nd.ones((1, 3, 8, 8)), global_step=1)
        writer.add_pr_curve("curve", np.array([0, 1, 1]), np.array([0.1, 0.7, 0.8]), 10, 1)
    (events,) = tmp_path.glob("events.out.tfevents.*")
    assert events.stat().st_size > 500


def test_too_new_a_protobuf_is_named(tmp_path):
    message = "Descriptors cannot be created directly.\nIf this call came from a _pb2.py file, ..."
    fake_package(tmp_path, "mxboard", f"raise TypeError({message!r})")
    sentence = complaint(tmp_path, "from gluon_ran import _runtime; _runtime.load_mxboard()")
    assert "protobuf>=3.20.2,<3.21" in sentence and "Descriptors cannot be" in sentence
