import json

import numpy as np
import pytest
from small import SPEC, TWO_MODULES, dataset, net, train_batches

from gluon_ran.models import ResidualAttentionNet, get_model
from gluon_ran.models.spec import change
from gluon_ran.training import check_dtype, make_contexts, training_graph
from gluon_ran.training.precision import LossScale, all_finite, cpu_has_bfloat16, symbol_of

import mxnet as mx
from mxnet import autograd

needs_bfloat16 = pytest.mark.skipif(
    not cpu_has_bfloat16(), reason="this CPU has neither avx512_bf16 nor amx_bf16"
)


def test_bfloat16_is_seen_in_the_flags_of_the_cpu(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("flags : fpu avx512f avx512_bf16 sse\n")
    assert cpu_has_bfloat16(str(path)) == mx.runtime.Features().is_enabled("MKLDNN")
    path.write_text("flags : fpu avx512f sse\n")
    assert not cpu_has_bfloat16(str(path))
    assert not cpu_has_bfloat16(str(tmp_path / "missing"))


def test_precisions_that_the_machine_lacks_are_refused(monkeypatch):
    check_dtype("float32", [mx.cpu()])
    with pytest.raises(ValueError, match="float16 trains on GPUs only"):
        check_dtype("float16", [mx.cpu()])
    with pytest.raises(ValueError, match="bfloat16 trains on CPUs only"):
        check_dtype("bfloat16", [mx.gpu()])
    monkeypatch.setattr("gluon_ran.training.precision.cpu_has_bfloat16", lambda: False)
    with pytest.raises(ValueError, match="avx512_bf16 or amx_bf16, which this one lacks"):
        check_dtype("bfloat16", [mx.cpu()])


def test_more_gpus_than_there_are_are_refused():
    with pytest.raises(ValueError, match="MXNet sees"):
        make_contexts(mx.context.num_gpus() + 1)
    assert make_contexts(0) == [mx.cpu()]


CHANGES = [
    {},
    {"attention": "channel"},
    {"attention": "spatial", "learning": "naive"},
    {"mask": "local_conv"},
    {"mask_features": True},
    {"unit": "resnext", "widths": (64, 64)},
    {"unit": "inception"},
]


@needs_bfloat16
@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_bfloat16_has_float32s_outputs_and_gradients_to_its_own_precision(changes):
    model = ResidualAttentionNet(change(TWO_MODULES, zero_init=True, **changes))
    model.initialize()
    images, _ = train_batches()(0)[0]
    images = np.tile(images, (4, 1, 1, 1))
    results = {}
    for dtype in ("float32", "bfloat16"):
        graph = training_graph(model, dtype, images.shape)
        with autograd.record():
            output = graph(mx.nd.array(images))
            loss = mx.nd.log_softmax(output)[:, 0].mean()
        loss.backward()
        parameters = (p for p in model.collect_params().values() if p.grad_req != "null")
        results[dtype] = output.asnumpy(), [p.grad().asnumpy() for p in parameters]
    (exact, gradients), (low, low_gradients) = results["float32"], results["bfloat16"]
    assert low.dtype == np.float32
    assert 0 < np.abs(low - exact).max() < 0.05 * np.abs(exact).max()
    largest = max(map(np.linalg.norm, gradients))
    for gradient, low_gradient in zip(gradients, low_gradients):
        assert low_gradient.dtype == np.float32
        error = np.linalg.norm(low_gradient - gradient)
        assert error <= 0.4 * np.linalg.norm(gradient) + 1e-3 * largest


@needs_bfloat16
@pytest.mark.parametrize(
    "operator, changes",
    [
        ("elemwise_mul", {"learning": "residual"}),
        ("elemwise_mul", {"learning": "naive"}),
        ("L2Normalization", {"attention": "channel"}),
        ("InstanceNorm", {"attention": "spatial"}),
        ("Dropout", {"dropout": 0.5}),
    ],
)
def test_what_onednn_has_no_bfloat16_form_of_is_float32(operator, changes):
    model = ResidualAttentionNet(change(SPEC, **changes))
    model.initialize()
    symbol = symbol_of(model, "bfloat16", (4, 3, 16, 16))
    internals = symbol.get_internals()
    types = dict(zip(internals.list_outputs(), internals.infer_type(data="float32")[1]))
    found = [node for node in json.loads(symbol.tojson())["nodes"] if node["op"] == operator]
    assert found
    assert {types[f"{node['name']}_output"] for node in found} == {np.float32}


@needs_bfloat16
def test_bfloat16_touches_no_other_network():
    model, other = net(), net()
    model.initialize()
    other.initialize()
    images = mx.nd.array(dataset().images[:4].transpose(0, 3, 1, 2).astype(np.float32) / 255)
    before = other(images).asnumpy()
    training_graph(model, "bfloat16", images.shape)(images)
    assert np.array_equal(other(images).asnumpy(), before)
    assert "bfloat16" not in model(mx.sym.var("data")).tojson()


def test_float16_casts_the_convolutions_and_spares_the_classifier():
    model = get_model("cifar_attention56_thin")
    model.initialize()
    graph = training_graph(model, "float16", (2, 3, 32, 32))
    symbol = graph(mx.sym.var("data"))
    _, outputs, _ = symbol.infer_type(data="float32")
    assert outputs == [np.float32]
    inner = dict(zip(symbol.get_internals().list_outputs(),
                     symbol.get_internals().infer_type(data="float32")[1]))  # fmt: skip
    convolutions = [
        t for name, t in inner.items() if "conv" in name and name.endswith("fwd_output")
    ]
    assert convolutions and set(convolutions) == {np.float16}


def test_loss_scale_halves_at_an_overflow_and_doubles_after_2000_good_steps():
    scale = LossScale.of("float16")
    assert scale.active and scale.value == 2.0**15
    scale.after(False)
    assert scale.value == 2.0**14
    for _ in range(1999):
        scale.after(True)
    assert scale.value == 2.0**14
    scale.after(True)
    assert scale.value == 2.0**15
    for _ in range(40):
        scale.after(False)
    assert scale.value == 1.0
    assert not LossScale.of("bfloat16").active
    # On the sum over a batch it is as large as on the mean.
    assert [LossScale.of("float16", n).value for n in (64, 65, 10**6)] == [2.0**9, 2.0**8, 1]


def test_all_finite_takes_the_arrays_of_the_deepest_network():
    arrays = [mx.nd.ones((4,)) for _ in range(1500)]
    assert all_finite(arrays)
    arrays[-1][2] = np.nan
    assert not all_finite(arrays)


def test_all_finite_finds_one_bad_number():
    good = [mx.nd.ones((3,)), mx.nd.zeros((2, 2))]
    assert all_finite(good)
    for bad in (np.nan, np.inf):
        good[1][1, 0] = bad
        assert not all_finite(good)
