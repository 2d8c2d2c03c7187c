"""The masks that a run's events show."""

from dataclasses import replace

import events
import numpy as np
import pytest
from runs import MIXED, arrays, assert_equal, interrupt_after, new_run, train
from small import (
    RECIPE,
    SPEC,
    TWO_MODULES,
    data_record,
    net,
    train_batches,
    validation_batches,
)

from gluon_ran.models import build, get_model
from gluon_ran.training import RunDirectory
from gluon_ran.training.mask_pictures import MaskPictures
from gluon_ran.training.monitor import Board, stretched
from gluon_ran.training.precision import cpu_has_bfloat16
from gluon_ran.training.step import Stepper
from gluon_ran.visualize import masks_image

import mxnet as mx


def shown(run):
    return events.images(run.path / "events", "mask/validation_pictures")


def test_masks_are_shown_now_and_then_and_change_no_bit(tmp_path):
    recipe = replace(MIXED, dtype="bfloat16" if cpu_has_bfloat16() else "float32")
    spec = replace(TWO_MODULES, dropout=0.5)
    quiet, whole = train(build(spec), recipe)
    run = RunDirectory.start(tmp_path / "run", spec, recipe, data_record())
    model, history = train(build(spec), recipe, run, mask_period=2)
    assert_equal(arrays(quiet), arrays(model))
    assert [r.losses for r in history.epochs] == [r.losses for r in whole.epochs]
    assert [r.val_loss for r in history.epochs] == [r.val_loss for r in whole.epochs]
    found = shown(run)
    assert [step for step, _ in found] == [2, 3]
    for _, image in found:
        assert image.shape == found[0][1].shape and min(image.shape[:2]) > 400
        column = (slice(None), slice(image.shape[1] // 3))  # the pictures, of two modules
        assert (image[column] == found[0][1][column]).all()
        assert (image != 255).any(axis=2).mean() > 0.5
    assert (found[0][1] != found[-1][1]).any()


def test_a_run_that_goes_on_shows_each_epoch_once_over_the_same_pictures(tmp_path):
    recipe = replace(RECIPE, epochs=2)
    run = new_run(tmp_path / "run", recipe)
    broken = interrupt_after(train_batches(recipe), 1, 1)
    for batches in (broken, None, None):
        train(net(), recipe, run, batches, workers=0, mask_period=1)
    (one, first), (two, second) = shown(run)
    pictures = slice(first.shape[1] // 3)
    assert (one, two) == (1, 2) and (first[:, pictures] == second[:, pictures]).all()


def test_a_graph_is_made_once_a_size_whatever_is_frozen(tmp_path, monkeypatch):
    recipe = replace(RECIPE, epochs=2, progressive_sizes=((8, 1),))
    model, made = net(), []
    model.initialize()
    model.freeze(1)
    graph = model.mask_graph
    monkeypatch.setattr(model, "mask_graph", lambda shape: made.append(shape[2:]) or graph(shape))
    run = new_run(tmp_path / "run", recipe)
    train(model, recipe, run, mask_period=1)
    assert made == [(8, 8), (16, 16)]
    (_, small), (_, large) = shown(run)
    assert small.shape == large.shape


def test_the_first_picture_of_each_of_four_classes_is_kept():
    pictures = MaskPictures(1, RECIPE)
    images = np.arange(12, dtype=np.float32).reshape(12, 1, 1, 1)
    labels = np.array([7, 7, 2, 7, 7, 2, 0, 2, 1, 3, 4, 5])
    for part in (slice(0, 5), slice(5, 12)) * 2:
        batch = images[part].copy()
        pictures.take(batch, labels[part])
        batch[:] = -1  # as where batches share their memory
    assert [int(image.item()) for image in pictures._images.values()] == [0, 2, 6, 8]
    never = MaskPictures(0, RECIPE)
    never.take(images, labels)
    assert not never._images and not any(never.due(epoch) for epoch in range(RECIPE.epochs))


@pytest.mark.parametrize("channels", [3, 2])
def test_what_is_drawn_is_the_masks_over_the_pictures(channels):
    model = build(replace(SPEC, in_channels=channels))
    stepper = Stepper(model, RECIPE, [mx.cpu()], "local")
    pictures = MaskPictures(1, RECIPE)
    images = np.random.default_rng(0).normal(size=(2, channels, 16, 24)).astype(np.float32)
    pictures.take(images, np.array([0, 1]))
    grey = images.mean(axis=1, keepdims=True).repeat(3, axis=1)
    planes = np.rint(255 * stretched(images if channels == 3 else grey)).astype(np.uint8)
    expected = masks_image(planes.transpose(0, 2, 3, 1), model.masks(mx.nd.array(images)))
    assert np.abs(pictures.draw(0, stepper).astype(int) - expected).max() <= 2


def test_a_figure_reaches_the_events_as_it_is(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    with Board(tmp_path) as board:
        board.figure("mask/validation_pictures", image, 7)
    ((step, read),) = events.images(tmp_path, "mask/validation_pictures")
    assert step == 7 and (read == image).all()


@pytest.mark.parametrize(
    "make, validation, period, message",
    [
        (net, validation_batches(), 3, "every 3 epochs where every 2 .* a multiple of 2"),
        (lambda: build(replace(SPEC, modules=(0, 0))), validation_batches(), 2, "has no masks"),
        (lambda: get_model("cifar_resnet20_v1", 3), validation_batches(), 2, "has no masks"),
        (net, None, 2, "give validation batches"),
        (net, validation_batches(), -2, "mask_period is -2"),
    ],
)
def test_masks_that_cannot_be_shown_are_refused_before_training(
    tmp_path, make, validation, period, message
):
    def batches(epoch):
        pytest.fail("training began")

    run = new_run(tmp_path / "run")
    with pytest.raises(ValueError, match=message):
        train(
            make(), run=run, batches=batches, validation=validation, mask_period=period,
            validation_period=2,
        )  # fmt: skip
    assert not (run.path / "events").exists()
