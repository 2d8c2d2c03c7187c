"""Recomputation against what autograd records: the same numbers, fewer of them kept."""

import re
from dataclasses import replace

import numpy as np
import pytest
from small import RECIPE, SPEC, data_record, net, train_batches, validation_batches

from gluon_ran.models import Baseline, ResidualAttentionNet, build
from gluon_ran.models.graph import Graph
from gluon_ran.training import RunDirectory, fit
from gluon_ran.training.binding import settings_of_bind
from gluon_ran.training.gradient_graph import with_gradients
from gluon_ran.training.precision import cpu_has_bfloat16, symbol_of
from gluon_ran.training.recompute import recomputed
from gluon_ran.training.step import Stepper
from gluon_ran.training.targets import soft_targets

import mxnet as mx

# Not BilinearResize2D, whose gradients differ from run to run.
NETWORKS = {
    "small": SPEC,
    "zero_init": replace(SPEC, zero_init=True),
    "resnext": replace(SPEC, unit="resnext", widths=(64, 64)),
    "spatial": replace(SPEC, attention="spatial"),
    "channel": replace(SPEC, attention="channel"),
    "naive": replace(SPEC, learning="naive"),
    "separable": replace(SPEC, upsampling="separable"),
    "dropout": replace(SPEC, dropout=0.5),
    "cifar_resnet20_v1": Baseline("cifar_resnet20_v1", classes=3),
    "cifar_resnet20_v2": Baseline("cifar_resnet20_v2", classes=3),
}
DTYPES = ["float32", pytest.param("bfloat16", marks=pytest.mark.skipif(
    not cpu_has_bfloat16(), reason="this CPU has no bfloat16"))]  # fmt: skip


def stepper(spec=SPEC, devices=1, recompute=False, dtype="float32", freeze=None, **kwargs):
    made = ResidualAttentionNet(spec, **kwargs) if freeze is not None or kwargs else build(spec)
    recipe = replace(RECIPE, dtype=dtype)
    made = Stepper(made, recipe, [mx.cpu(i) for i in range(devices)], "local", recompute)
    if freeze is not None:
        made.net.freeze(freeze)
    return made


def steps(stepper, counts=(8, 8, 5)):
    """Some steps with batches of several sizes: what they gave, and all arrays behind them."""
    images, labels = train_batches()(0)[0]
    targets = soft_targets(labels, 3, 0.1)
    mx.random.seed(7)
    results = [stepper(images[:n], targets[:n], lr=0.05) for n in counts]
    arrays = {
        name.split("_", 1)[-1]: [each.asnumpy() for each in p.list_data()]
        + [each.asnumpy() for each in (p.list_grad() if p.grad_req != "null" else ())]
        for name, p in stepper.net.collect_params().items()
    }
    return results, arrays


def assert_equal(left, right):
    assert left[0] == right[0] and list(left[1]) == list(right[1])
    for name, arrays in left[1].items():
        for a, b in zip(arrays, right[1][name]):
            assert np.array_equal(a, b), name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NETWORKS)
def test_steps_are_those_of_autograd_to_the_bit(name, dtype):
    plain, again = (
        steps(stepper(NETWORKS[name], recompute=recompute, dtype=dtype))
        for recompute in (False, True)
    )
    assert np.isfinite([result.loss for result in plain[0]]).all()
    assert_equal(plain, again)


STEM, STEM_AND_STAGE = "features.stem.", r"features.(stem|stages.0)."


def arrays_of(stepper, pattern):
    """Copies of weights and statistics, of those whose structural names match a pattern."""
    named = stepper.net._collect_params_with_prefix()
    return {name: p.data().asnumpy() for name, p in named.items() if re.match(pattern, name)}


def moved(stepper, before):
    """Names of what is no longer as it was."""
    now = arrays_of(stepper, "")
    return {name for name in before if not np.array_equal(now[name], before[name])}


@pytest.mark.parametrize(
    "settings, kept",
    [
        ({"freeze": 0}, STEM),
        ({"freeze": 1}, STEM_AND_STAGE),
        ({"norm_kwargs": {"use_global_stats": True}}, ".*running_"),
    ],
)
def test_frozen_parts_stay_frozen(settings, kept):
    made = [stepper(NETWORKS["zero_init"], recompute=each, **settings) for each in (False, True)]
    before = [(arrays_of(each, kept), arrays_of(each, "output")) for each in made]
    plain, again = map(steps, made)
    assert np.isfinite([result.loss for result in plain[0]]).all()
    assert_equal(plain, again)
    for each, (frozen, trained) in zip(made, before):
        assert frozen and not moved(each, frozen) and moved(each, trained) == set(trained)


def test_several_devices_share_a_batch():
    plain, again = (steps(stepper(devices=2, recompute=each)) for each in (False, True))
    assert_equal(plain, again)


def test_a_run_is_the_same_whether_it_recomputes_or_not(tmp_path):
    recipe = replace(RECIPE, epochs=2, progressive_sizes=((8, 1),))

    def train(recompute, run=None):
        history = fit(
            net(), recipe, train_batches(), validation_batches(), classes=3, recompute=recompute,
            run=run, progress=False,
        )  # fmt: skip
        return [(e.losses, e.val_loss, e.val_top1) for e in history.epochs]

    plain = train(False)
    run = RunDirectory.start(tmp_path / "run", SPEC, recipe, data_record())
    assert train(True, run) == plain
    # Goes on behind the first epoch, in either way.
    for recompute in (False, True):
        (run.checkpoints / "epoch-0002.json").unlink()
        assert train(recompute, run) == plain[1:]


def test_layers_may_be_frozen_between_steps():
    """And thawed; weights and statistics: norms of frozen layers are others in the graph."""
    made = stepper(), stepper(recompute=True)
    before = []
    for each in made:
        steps(each, [8])
        each.net.freeze(1)
        before.append(arrays_of(each, STEM_AND_STAGE))
    assert_equal(*(steps(each, [8]) for each in made))
    for each, frozen in zip(made, before):
        assert frozen and not moved(each, frozen)
        each.net.freeze(None)
    assert_equal(*(steps(each, [8]) for each in made))
    for each, frozen in zip(made, before):
        statistics = {name for name in frozen if "running_" in name}
        assert statistics and statistics <= moved(each, frozen)


@pytest.mark.parametrize("recompute", [False, True])
def test_norms_are_frozen_whose_parameters_were_before(recompute):
    """They then normalise by running statistics, as in a graph that is made anew."""
    made = [stepper(recompute=recompute) for _ in range(2)]
    for each in made:
        for name, parameter in each.net._collect_params_with_prefix().items():
            if name.startswith(STEM):
                parameter.grad_req = "null"
        steps(each, [8])
        each.net.freeze(0)
    made[1].forget_graphs()
    assert_equal(*(steps(each, [8]) for each in made))


def test_zero_gradients_have_their_place():
    class Head(mx.gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.one = mx.gluon.nn.Dense(3, in_units=3 * 16 * 16)
                self.other = mx.gluon.nn.Dense(3, in_units=3)

        def hybrid_forward(self, F, x):
            y = self.one(x)
            return self.other(F.BlockGrad(F.relu(y))) + y

    plain, again = (
        steps(Stepper(Head(), RECIPE, [mx.cpu()], "local", recompute))
        for recompute in (False, True)
    )
    assert_equal(plain, again)


def test_gradients_that_add_up_are_refused():
    each = stepper(recompute=True)
    each.net.output.weight.grad_req = "add"
    with pytest.raises(ValueError, match="dense0_weight is 'add': set it to 'write'"):
        steps(each, [8])


@pytest.mark.parametrize("recompute", [False, True])
def test_a_network_of_which_all_is_frozen_is_refused(recompute):
    made = net()
    made.initialize()
    made.collect_params().setattr("grad_req", "null")
    with pytest.raises(ValueError, match="no parameter is left to train"):
        Stepper(made, RECIPE, [mx.cpu()], "local", recompute)


def test_the_scale_of_the_loss_is_that_of_the_gradients():
    plain, scaled = stepper(recompute=True), stepper(recompute=True)
    steps(plain, [8])
    scaled.scale.active, scaled.scale.value = True, 64.0
    steps(scaled, [8])
    ours, theirs = (s.net.output.weight.grad().asnumpy() for s in (plain, scaled))
    assert np.abs(ours).max() > 0 and np.array_equal(64 * ours, theirs)


def derived(spec):
    made = build(spec)
    if isinstance(made, ResidualAttentionNet):
        made.blocked = True
    made.initialize()
    shape = (4, 3, 32, 32)
    scores = symbol_of(made, "float32", shape)
    names = [name for name in scores.list_arguments() if name != "data"]
    return with_gradients(mx.sym.Group([scores.sum(axis=1), scores]), {"data": shape}, names)


@pytest.mark.parametrize("name", ["small", "cifar_resnet20_v2"])
def test_the_backward_half_reads_no_norm_of_the_forward_half(name):
    graph = Graph(recomputed(derived(NETWORKS[name])))
    backward = {
        number for number, node in enumerate(graph.nodes) if node["op"].startswith("_backward")
    }
    read = [
        (graph.nodes[source]["name"], output)
        for number in backward
        for source, output, *_ in graph.nodes[number]["inputs"]
        if "BatchNorm" in graph.nodes[source]["op"] and source not in backward
    ]
    assert any(name.endswith("_again") for name, _ in read)
    assert all(name.endswith("_again") or output in (1, 2) for name, output in read)


def test_of_the_convolutions_pointwise_ones_alone_are_computed_twice():
    twice = [
        node["attrs"]["kernel"]
        for node in Graph(recomputed(derived(SPEC))).nodes
        if node["op"] == "Convolution" and node["name"].endswith("_again")
    ]
    assert set(twice) == {"(1, 1)"}


def test_gradients_are_those_of_finite_differences():
    x, w = mx.sym.var("x"), mx.sym.var("w")
    rows = mx.sym.FullyConnected(x, w, num_hidden=3, no_bias=True, flatten=False)
    graph = with_gradients(mx.sym.sum(mx.sym.tanh(rows) * 2, axis=1), {"x": (4, 5)}, ["w", "x"])
    rng = np.random.default_rng(0)
    values = {"x": rng.normal(size=(4, 5)), "w": rng.normal(size=(3, 5))}
    values["head_gradient"] = rng.normal(size=4)
    arrays = {name: mx.nd.array(value) for name, value in values.items()}
    with settings_of_bind():
        executor = graph.bind(mx.cpu(), arrays, grad_req="null")
    _, by_w, by_x = (each.asnumpy() for each in executor.forward(is_train=True))

    def weighted(**changed):
        now = {**values, **changed}
        return (2 * np.tanh(now["x"] @ now["w"].T)).sum(axis=1) @ values["head_gradient"]

    for name, gradient in (("w", by_w), ("x", by_x)):
        direction, step = rng.normal(size=values[name].shape), 1e-5
        up, down = (weighted(**{name: values[name] + s * step * direction}) for s in (1, -1))
        assert (gradient * direction).sum() == pytest.approx((up - down) / (2 * step), rel=1e-4)


def test_it_takes_less_memory():
    """By what MXNet plans for the graph; benchmarks/training_memory.py measures the process."""
    made = derived(SPEC)
    planned = []
    for graph in (made, recomputed(made)):
        shapes = {"data": (256, 3, 32, 32), "head_gradient": (256,)}
        with settings_of_bind():
            executor = graph.simple_bind(mx.cpu(), grad_req="null", **shapes)
        (line,) = [n for n in executor.debug_str().splitlines() if "MB allocated" in n]
        planned.append(int(line.split()[1]))
    assert planned[1] < 0.7 * planned[0]


def test_gpus_are_refused():
    with pytest.raises(ValueError, match="recomputation is for CPUs"):
        Stepper(net(), RECIPE, [mx.gpu(0)], "local", recompute=True)
