"""The PyTorch peer of benchmarks/throughput.py is our network, in a Python that has PyTorch.

That is the one that TORCH_PYTHON names, or the one that runs the tests if it has PyTorch.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from benchmark_modules import BENCHMARKS, imported

THIN = "cifar_attention56_thin"
PYTHON = os.environ.get("TORCH_PYTHON") or (sys.executable if find_spec("torch") else None)
pytestmark = pytest.mark.skipif(PYTHON is None, reason="no PyTorch, and no TORCH_PYTHON")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The reference of a thin network."""
    path = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch, imported(patch, "throughput_reference") as (
        module,
    ):
        module.write(THIN, path)
    return path


def work(folder, job, form, batches="1\n"):
    """The worker's answers and its standard error."""
    command = [PYTHON, str(BENCHMARKS / "throughput_worker.py"), "throughput_torch", job, form]
    command += [f"--reference={folder}", "--batch-size=2"]
    finished = subprocess.run(command, input=batches, capture_output=True, text=True, check=False)
    return [json.loads(line) for line in finished.stdout.splitlines()], finished.stderr


def altered(folder, tmp_path, **changes):
    """A copy of the reference with arrays changed."""
    with np.load(folder / "reference.npz") as arrays:
        np.savez(tmp_path / "reference.npz", **{**arrays, **changes})
    return tmp_path


@pytest.mark.parametrize("form", ["float32", "bfloat16"])
def test_training_has_our_scores_and_losses(folder, form):
    (description, timing), error = work(folder, "training", form)
    assert error == ""
    assert description["differences"]["scores"] < 1e-4
    assert description["differences"]["losses"] < 1e-3
    assert description["versions"]["torch"] and description["shape"] == [2, 3, 32, 32]
    assert len(timing["seconds"]) == 1 and np.isfinite(timing["number"])


@pytest.mark.parametrize("form", ["float32", "folded-float32", "bfloat16", "folded-bfloat16"])
def test_inference_has_our_scores(folder, form):
    (description, timing), error = work(folder, "inference", form, "2\n")
    assert error == ""
    assert description["differences"]["scores"] < 1e-4
    bound = 1e-4 if form.endswith("float32") else 0.1
    assert description["differences"]["scores as timed"] < bound
    assert len(timing["seconds"]) == 2


def test_other_scores_and_other_losses_are_refused(folder, tmp_path):
    with np.load(folder / "reference.npz") as arrays:
        scores, losses = arrays["scores"], arrays["losses"]
    changed = altered(folder, tmp_path, scores=scores * 1.001)
    answers, error = work(changed, "inference", "float32")
    assert answers == [] and "scores differ" in error
    changed = altered(folder, tmp_path, losses=losses * [1, 1, 1.01])
    answers, error = work(changed, "training", "float32")
    assert answers == [] and "losses differ" in error


def test_weights_have_to_fit(folder, tmp_path):
    with np.load(folder / "reference.npz") as arrays:
        name = next(n for n in arrays.files if n.endswith("norm1.gamma"))
        short = arrays[name][:-1]
    answers, error = work(altered(folder, tmp_path, **{name: short}), "inference", "float32")
    assert answers == [] and "size mismatch" in error


def test_a_spec_that_it_does_not_cover_is_an_obstacle(folder, tmp_path):
    with np.load(folder / "reference.npz") as arrays:
        spec = {**json.loads(str(arrays["spec"])), "attention": "channel"}
    changed = altered(folder, tmp_path, spec=json.dumps(spec))
    answers, _ = work(changed, "inference", "float32")
    assert len(answers) == 1 and "'channel'" in answers[0]["obstacle"]
