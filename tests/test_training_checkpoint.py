import json
import os

import numpy as np
import pytest
from small import net

from gluon_ran.training import CheckpointError, load_weights
from gluon_ran.training import checkpoint as cp
from gluon_ran.training import manifest as manifest_of

import mxnet as mx
from mxnet import autograd
from mxnet.gluon import Trainer

SETTINGS = {"learning_rate": 0.1, "momentum": 0.9}


def trained(steps=1, contexts=()):
    contexts = contexts or [mx.cpu()]
    model = net()
    model.initialize(ctx=list(contexts))
    trainer = Trainer(model.collect_params(), "nag", SETTINGS, update_on_kvstore=False)
    for _ in range(steps):
        with autograd.record():
            losses = [model(mx.nd.random.normal(shape=(2, 3, 16, 16), ctx=c)) for c in contexts]
        autograd.backward(losses)
        trainer.step(2)
    return model, trainer


def save(folder, epochs, model, trainer, **kwargs):
    cp.save_checkpoint(folder, model, trainer, {"best_top1": 0.5}, epochs=epochs, **kwargs)


def arrays(model):
    named = model._collect_params_with_prefix()
    # Each device has BatchNorm statistics of its own; those of the first are the network's.
    return {name: p.list_data()[0].asnumpy() for name, p in named.items()}


@pytest.mark.parametrize("devices", [1, 2])
def test_weights_and_momentum_come_back_to_the_bit_on_every_device(tmp_path, devices):
    contexts = [mx.cpu(i) for i in range(devices)]
    model, trainer = trained(2, contexts)
    save(tmp_path, 3, model, trainer)
    manifest = manifest_of.newest_whole(tmp_path)
    assert manifest["epochs"] == 3 and manifest["progress"] == {"best_top1": 0.5}
    other, other_trainer = trained(1, contexts)
    load_weights(other, manifest_of.checked_file(tmp_path, manifest, "weights"), contexts)
    cp.load_optimizer_arrays(
        other, other_trainer, manifest_of.checked_file(tmp_path, manifest, "states")
    )
    loaded = arrays(other)
    for name, array in arrays(model).items():
        assert np.array_equal(loaded[name], array)
    saved = cp.optimizer_arrays(model, trainer)
    assert len(saved) == sum(p.grad_req != "null" for p in model.collect_params().values())
    for updater in other_trainer._updaters:
        for index, state in trainer._updaters[0].states.items():
            assert np.array_equal(updater.states[index].asnumpy(), state.asnumpy())


def test_weights_are_plain_gluon_files_and_nothing_is_pickled(tmp_path):
    model, trainer = trained()
    save(tmp_path, 0, model, trainer, best=True)
    again = net()
    again.load_parameters(str(tmp_path / "epoch-0000.params"))
    assert set(mx.nd.load(str(tmp_path / "epoch-0000.states"))) <= set(arrays(model))
    for path in tmp_path.iterdir():
        assert path.suffix in (".params", ".states", ".json")
        assert b"cnumpy" not in path.read_bytes() and b"cmxnet" not in path.read_bytes()


def files(folder, *suffixes):
    return sorted(path.name for path in folder.iterdir() if path.suffix in suffixes)


def test_only_the_last_ones_the_best_and_every_periodth_weights_are_kept(tmp_path):
    model, trainer = trained()
    (tmp_path / ".epoch-0009.params.1.tmp").write_text("left by a kill")
    (tmp_path / "epoch-0000-step-000003.params").write_text("left by a kill before its manifest")
    for epoch in range(1, 8):
        save(tmp_path, epoch, model, trainer, best=epoch == 2, save_period=3)
        save(tmp_path, epoch, model, trainer, steps=17)
    last = ["epoch-0007", "epoch-0007-step-000017"]
    kept = [f"epoch-000{n}" for n in (3, 6)]
    assert files(tmp_path, ".states") == sorted(f"{stem}.states" for stem in last)
    assert files(tmp_path, ".params") == sorted(
        f"{stem}.params" for stem in ("epoch-0002", *kept, *last)
    )
    assert files(tmp_path, ".json") == sorted(f"{s}.json" for s in ("best", *kept, *last))
    assert not list(tmp_path.glob(".*"))
    assert manifest_of.read_manifest(tmp_path, "best")["weights"] == "epoch-0002.params"
    save(tmp_path, 8, model, trainer, best=True)
    assert "epoch-0002.params" not in files(tmp_path, ".params")


def test_files_of_ones_own_stay_and_are_no_checkpoints(tmp_path):
    model, trainer = trained()
    own = ["epoch-0001-backup.params", "epoch-final.json", "epoch-final.params", "epoch-x.states"]
    for name in own:
        (tmp_path / name).write_text("{}")
    for epoch in (1, 2, 3, 4):
        save(tmp_path, epoch, model, trainer, save_period=2)
    assert all((tmp_path / name).exists() for name in own)
    assert manifest_of.stems_of(tmp_path) == ["epoch-0004", "epoch-0003", "epoch-0002"]
    assert manifest_of.newest_whole(tmp_path)["epochs"] == 4


@pytest.mark.parametrize("count", [1, 3])
def test_as_many_checkpoints_are_kept_as_are_asked_for(tmp_path, count):
    model, trainer = trained()
    for epoch in range(1, 6):
        save(tmp_path, epoch, model, trainer, keep_last=count)
    assert files(tmp_path, ".states") == [f"epoch-{n:04d}.states" for n in range(6 - count, 6)]


def test_another_save_period_spares_what_was_kept_before(tmp_path):
    model, trainer = trained()
    for epoch in range(1, 7):
        save(tmp_path, epoch, model, trainer, save_period=2 if epoch < 5 else 0, keep_last=1)
    assert files(tmp_path, ".params") == [f"epoch-000{n}.params" for n in (2, 4, 6)]


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize("suffix", ["params", "states", "json"])
@pytest.mark.parametrize("how", ["flip", "cut", "empty", "missing"])
def test_the_checkpoint_before_is_used_in_place_of_a_damaged_one(tmp_path, caplog, suffix, how):
    model, trainer = trained()
    for epoch in (1, 2):
        save(tmp_path, epoch, model, trainer)
    assert manifest_of.newest_whole(tmp_path)["epochs"] == 2
    damage(tmp_path / f"epoch-0002.{suffix}", how)
    assert manifest_of.newest_whole(tmp_path)["epochs"] == 1
    if (suffix, how) != ("json", "missing"):
        assert f"epoch-0002.{suffix}" in caplog.text
    save(tmp_path, 1, model, trainer, steps=5)
    assert files(tmp_path, ".states") == ["epoch-0001-step-000005.states", "epoch-0001.states"]
    damage(tmp_path / "epoch-0001-step-000005.params", "flip")
    damage(tmp_path / "epoch-0001.states", "cut")
    with pytest.raises(CheckpointError, match="no checkpoint that is whole.*0005.params.*0001.sta"):
        manifest_of.newest_whole(tmp_path)


def test_kept_weights_alone_are_not_a_run_that_never_began(tmp_path):
    model, trainer = trained()
    save(tmp_path, 1, model, trainer, save_period=1)
    (tmp_path / "epoch-0001.states").unlink()
    with pytest.raises(CheckpointError, match="epoch-0001.states is missing"):
        manifest_of.newest_whole(tmp_path)


def test_a_missing_state_is_named_unless_it_was_pruned(tmp_path, caplog):
    """The newest checkpoint is never pruned of its optimizer state, to be kept or not."""
    model, trainer = trained()
    for epoch in range(1, 5):
        save(tmp_path, epoch, model, trainer, save_period=2)
    assert not (tmp_path / "epoch-0002.states").exists()
    (tmp_path / "epoch-0004.states").unlink()
    assert manifest_of.newest_whole(tmp_path)["epochs"] == 3
    assert [r.getMessage().count("epoch-0004.states is missing") for r in caplog.records] == [1]
    (tmp_path / "epoch-0003.params").unlink()
    caplog.clear()
    with pytest.raises(CheckpointError, match="epoch-0002.json has weights alone"):
        manifest_of.newest_whole(tmp_path)
    assert len(caplog.records) == 2 and "epoch-0002" not in caplog.text
    caplog.clear()
    with pytest.raises(CheckpointError, match="weights alone"):
        manifest_of.newest_whole(tmp_path, before=(3, 0))
    assert not caplog.records


def test_every_flipped_bit_of_a_manifest_is_found(tmp_path):
    model, trainer = trained()
    save(tmp_path, 1, model, trainer)
    path = tmp_path / "epoch-0001.json"
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                assert manifest_of.read_manifest(tmp_path, "epoch-0001") == json.loads(whole)
            except CheckpointError:
                continue


def test_a_checkpoint_of_another_run_is_not_taken_up(tmp_path, caplog):
    model, trainer = trained()
    save(tmp_path, 1, model, trainer, run_id="ours")
    save(tmp_path, 2, model, trainer, run_id="theirs")
    assert manifest_of.newest_whole(tmp_path, "ours")["epochs"] == 1
    assert "epoch-0002.json belongs to another run" in caplog.text
    with pytest.raises(CheckpointError, match="belongs to another run"):
        manifest_of.newest_whole(tmp_path, "somebody else's")
    assert manifest_of.newest_whole(tmp_path / "nowhere", "ours") is None


@pytest.mark.parametrize("failing", ["params", "states", "json"])
def test_a_failure_while_saving_leaves_the_checkpoint_before(tmp_path, monkeypatch, failing):
    model, trainer = trained()
    save(tmp_path, 0, model, trainer)
    replace = os.replace

    def break_down(source, target):
        if str(target).endswith(failing):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", break_down)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, 1, model, trainer)
    monkeypatch.undo()
    manifest = manifest_of.newest_whole(tmp_path)
    assert manifest["epochs"] == 0
    for part in ("weights", "states"):
        manifest_of.checked_file(tmp_path, manifest, part)
    assert not list(tmp_path.glob(".*")), "temporary files are left"


@pytest.mark.parametrize("part", ["weights", "states"])
@pytest.mark.parametrize("damage", ["flip", "cut", "missing"])
def test_damaged_parts_are_named(tmp_path, part, damage):
    model, trainer = trained()
    save(tmp_path, 0, model, trainer)
    manifest = manifest_of.newest_whole(tmp_path)
    path = tmp_path / manifest[part]
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    path.unlink()
    if damage != "missing":
        path.write_bytes(content if damage == "flip" else content[:-7])
    with pytest.raises(CheckpointError, match=f"{path.name} is (damaged|missing)"):
        manifest_of.checked_file(tmp_path, manifest, part)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"epochs": 1}',
        '{"epochs": "x", "steps": 0, "keep": 0, "progress": {}, "sha256": {}}',
    ],
)
def test_a_damaged_manifest_is_named(tmp_path, text):
    (tmp_path / "best.json").write_text(text)
    with pytest.raises(CheckpointError, match="best.json is damaged"):
        manifest_of.read_manifest(tmp_path, "best")


def test_a_manifest_cannot_point_outside_its_folder(tmp_path):
    model, trainer = trained()
    save(tmp_path, 0, model, trainer)
    path = tmp_path / "epoch-0000.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "weights": "../elsewhere.params"}))
    with pytest.raises(CheckpointError, match="epoch-0000.json is damaged"):
        manifest_of.read_manifest(tmp_path, "epoch-0000")


def test_weights_of_another_network_or_no_weights_are_refused(tmp_path):
    model, trainer = trained()
    save(tmp_path, 0, model, trainer)
    other = mx.gluon.nn.Dense(3, in_units=2)
    with pytest.raises(CheckpointError, match="does not hold the weights of this network"):
        load_weights(other, tmp_path / "epoch-0000.params", [mx.cpu()])
    (tmp_path / "text.params").write_text("these are no weights")
    with pytest.raises(CheckpointError, match="text.params can.t be read as MXNet parameters"):
        load_weights(model, tmp_path / "text.params", [mx.cpu()])
    with pytest.raises(CheckpointError, match="there are no weights"):
        load_weights(model, tmp_path / "missing.params", [mx.cpu()])


def test_optimizer_state_of_another_network_is_refused(tmp_path):
    model, trainer = trained()
    mx.nd.save(str(tmp_path / "x.states"), {"elsewhere.weight": mx.nd.ones((2,))})
    with pytest.raises(CheckpointError, match="of another network"):
        cp.load_optimizer_arrays(model, trainer, tmp_path / "x.states")


def test_optimizer_state_of_other_layers_is_refused_and_says_so(tmp_path):
    model, trainer = trained()
    save(tmp_path, 0, model, trainer)
    states = tmp_path / "epoch-0000.states"
    count = len(mx.nd.load(str(states)))
    frozen = next(iter(model.collect_params().values()))
    frozen.grad_req = "null"
    message = f"state of {count} parameters, and {count - 1} are trained now: freeze what was"
    with pytest.raises(CheckpointError, match=message):
        cp.load_optimizer_arrays(model, trainer, states)
    frozen.grad_req = "write"
    cp.load_optimizer_arrays(model, trainer, states)


def test_a_damaged_best_manifest_costs_no_weights(tmp_path, caplog):
    model, trainer = trained()
    for epoch in range(1, 5):
        save(tmp_path, epoch, model, trainer, best=epoch == 1, keep_last=1)
        if epoch == 2:
            (tmp_path / "best.json").write_text("{")
    assert "best.json is damaged" in caplog.text and "no weights are removed" in caplog.text
    assert files(tmp_path, ".params") == [f"epoch-000{n}.params" for n in (1, 2, 3, 4)]
    save(tmp_path, 5, model, trainer, best=True, keep_last=1)
    assert files(tmp_path, ".params") == ["epoch-0005.params"]


def test_kept_weights_stay_where_their_manifest_is_damaged(tmp_path):
    model, trainer = trained()
    for epoch in range(1, 5):
        save(tmp_path, epoch, model, trainer, save_period=2, keep_last=1)
        if epoch == 2:
            (tmp_path / "epoch-0002.json").write_text("{")
    assert files(tmp_path, ".params") == ["epoch-0002.params", "epoch-0004.params"]


@pytest.mark.parametrize("what", ["folder", "pipe", "nested", "number", "negative"])
def test_what_is_no_manifest_gives_way_to_the_one_before(tmp_path, what):
    model, trainer = trained()
    save(tmp_path, 1, model, trainer)
    path = tmp_path / "epoch-0002.json"
    manifest = json.loads((tmp_path / "epoch-0001.json").read_text())
    signed = {"number": {**manifest, "epochs": 1.5}, "negative": {**manifest, "steps": -1}}
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "nested":
        path.write_text("[" * 100_000)
    else:
        signed = {**signed[what], "checksum": manifest_of.checksum(signed[what])}
        path.write_text(json.dumps(signed))
    assert manifest_of.newest_whole(tmp_path)["epochs"] == 1
    save(tmp_path, 3, model, trainer)
    assert manifest_of.newest_whole(tmp_path)["epochs"] == 3


def test_an_optimizer_state_of_other_shapes_is_refused(tmp_path):
    model, trainer = trained()
    save(tmp_path, 1, model, trainer)
    path = tmp_path / "epoch-0001.states"
    saved = cp.read_params_file(path)
    name = next(iter(saved))
    cp.write_params_file(path, {**saved, name: saved[name][:1]})
    with pytest.raises(CheckpointError, match=f"{name} is .* and must be"):
        cp.load_optimizer_arrays(model, trainer, path)


def test_a_checkpoint_to_be_kept_of_another_run_is_named_and_goes(tmp_path, caplog):
    """Its manifest names files that are not there, as pruning leaves one's own."""
    model, trainer = trained()
    save(tmp_path / "other", 4, model, trainer, save_period=2, run_id="other")
    save(tmp_path / "run", 1, model, trainer, run_id="own")
    theirs = (tmp_path / "other" / "epoch-0004.json").read_text()
    (tmp_path / "run" / "epoch-9000.json").write_text(theirs)
    assert manifest_of.newest_whole(tmp_path / "run", "own")["epochs"] == 1
    assert "epoch-9000.json belongs to another run" in caplog.text
    save(tmp_path / "run", 2, model, trainer, run_id="own")
    assert not (tmp_path / "run" / "epoch-9000.json").exists()
