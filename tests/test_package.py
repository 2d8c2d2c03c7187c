"""What is installed: metadata, all modules, and the sign that there are annotations."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

import gluon_ran

CHECKOUT = Path(__file__).resolve().parents[1]


def modules(folder):
    return {path.relative_to(folder) for path in folder.rglob("*.py")}


def requirements(extra):
    every = map(Requirement, metadata.requires("gluon_ran"))
    return [r for r in every if r.marker and r.marker.evaluate({"extra": extra})]


def test_the_version_has_one_home():
    assert metadata.version("gluon_ran") == gluon_ran.__version__


def test_every_module_is_installed():
    installed = Path(gluon_ran.__file__).parent
    assert modules(CHECKOUT / "gluon_ran") <= modules(installed)
    assert (installed / "py.typed").is_file()


def test_the_trained_weights_are_installed():
    installed = Path(gluon_ran.__file__).parent / "weights"
    there = {path.name for path in (CHECKOUT / "gluon_ran" / "weights").iterdir()}
    assert {"cifar_attention56_thin.params", "cifar_attention56_thin.json"} <= there
    assert there <= {path.name for path in installed.iterdir()}


def test_every_folder_of_modules_is_a_package():
    folders = {path.parent for path in (CHECKOUT / "gluon_ran").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_either_build_of_mxnet_can_be_chosen():
    always = {r.name for r in requirements("none of them")}
    assert {"mxnet"} == {r.name for r in requirements("cpu")} - always
    cuda = {r.name for r in requirements("cu112")} - always
    assert "mxnet-cu112" in cuda and "nvidia-cudnn-cu11" in cuda


def test_the_onnx_extra_has_what_the_files_need():
    always = {r.name for r in requirements("none of them")}
    assert {"onnx", "onnxruntime"} == {r.name for r in requirements("onnx")} - always
    assert {"onnx", "onnxruntime"} < {r.name for r in requirements("test")}


def test_the_versions_of_python_are_bounded():
    assert set(metadata.metadata("gluon_ran")["Requires-Python"].split(",")) == {">=3.8", "<3.13"}


def test_a_folder_of_its_name_is_not_taken_for_the_package(tmp_path):
    """As where Python starts in the folder above a clone."""
    (tmp_path / "gluon_ran").mkdir()
    code = "import gluon_ran; print(gluon_ran.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.strip() == gluon_ran.__version__, done.stderr
