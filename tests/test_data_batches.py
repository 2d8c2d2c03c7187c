"""Batches as functions of (seed, epoch, step), and the thread that makes them ahead."""

import gc
import threading
import time

import numpy as np
import pytest
from small import dataset

from gluon_ran.data import Augmentation, Batches, DataError, Dataset, Normalization, prefetch

COUNT = 50
IMAGES = np.random.default_rng(2).integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8)
DATASET = Dataset(IMAGES, np.arange(COUNT, dtype=np.int32), tuple(map(str, range(COUNT))))
IDENTITY = Normalization([0, 0, 0], [1, 1, 1])


def batches(**changes):
    settings = {"seed": 3, "shuffle": True, "augmentation": Augmentation(cutout=2), **changes}
    return Batches(DATASET, 16, IDENTITY, **settings)


def images_by_label(items):
    return {label: image for images, labels in items for image, label in zip(images, labels)}


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second))


def test_an_epoch_holds_every_picture_once():
    items = list(batches(augmentation=None))
    assert [len(labels) for _, labels in items] == [16, 16, 16, 2]
    assert items[0][0].dtype == np.float32
    assert items[0][0].flags.c_contiguous
    assert items[0][1].dtype == np.int32
    found = images_by_label(items)
    assert sorted(found) == list(range(COUNT))
    for label, image in found.items():
        assert np.array_equal(image, IMAGES[label].transpose(2, 0, 1))


def test_order_is_the_data_sets_unless_shuffled():
    def labels(**changes):
        return np.concatenate([labels for _, labels in batches(**changes)]).tolist()

    assert labels(shuffle=False) == list(range(COUNT))
    orders = [labels(seed=seed, epoch=epoch) for seed in (3, 4) for epoch in (0, 1)]
    assert len(set(map(tuple, orders))) == 4
    assert orders[0] == labels(augmentation=None)


def test_a_batch_depends_on_its_step_alone():
    in_order = list(batches())
    for step in (3, 0, 2, 2, 1):
        assert same(batches()[step], in_order[step])
    for step in (-1, 4):
        with pytest.raises(IndexError):
            batches()[step]


def test_seed_epoch_and_step_each_vary_the_augmentation():
    same_picture = Dataset(
        np.repeat(IMAGES[:1], 32, axis=0), np.zeros(32, np.int32), DATASET.class_names
    )
    drawn = {
        Batches(
            same_picture,
            16,
            IDENTITY,
            seed=seed,
            epoch=epoch,
            augmentation=Augmentation(),
        )[step][0].tobytes()
        for seed in (0, 1, 2)
        for epoch in (0, 1, 2)
        for step in (0, 1)
    }
    assert len(drawn) == 18


def test_alternating_flip_shows_both_sides_in_any_two_epochs():
    settings = Augmentation(crop_padding=0, flip="alternating")
    epochs = [images_by_label(batches(augmentation=settings, epoch=epoch)) for epoch in range(3)]
    mirrored = 0
    for label in range(COUNT):
        first, second, third = (epoch[label] for epoch in epochs)
        assert np.array_equal(first, second[..., ::-1])
        assert np.array_equal(first, third)
        mirrored += not np.array_equal(first, IMAGES[label].transpose(2, 0, 1))
    assert 10 < mirrored < 40


def test_borders_and_cutout_are_zero_after_normalisation():
    normalization = Normalization([100, 120, 140], [50, 60, 70])
    images = Batches(
        DATASET, COUNT, normalization, augmentation=Augmentation(8, "zero", "none", cutout=1)
    )[0][0]
    assert (images == 0).all(axis=1).mean() > 0.1


def test_an_epoch_goes_on_from_any_step():
    stream = batches()
    rest, whole = list(stream.from_step(2)), list(stream)
    assert len(rest) == len(whole) - 2 > 0
    assert all(map(same, rest, whole[2:]))
    assert list(stream.from_step(len(stream))) == []


def test_drop_last_leaves_only_full_batches():
    dropped = batches(drop_last=True)
    assert len(dropped) == 3
    assert [len(labels) for _, labels in dropped] == [16, 16, 16]
    assert all(same(a, b) for a, b in zip(dropped, batches()))


@pytest.mark.parametrize(
    ("batch_size", "changes"),
    [(0, {}), (8, {"seed": -1}), (8, {"epoch": -1}), (COUNT + 1, {"drop_last": True})],
)
def test_settings_that_give_no_batches_fail(batch_size, changes):
    with pytest.raises(DataError):
        Batches(DATASET, batch_size, IDENTITY, **changes)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def wait_until_no_thread():
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not threads()


@pytest.mark.parametrize("depth", [1, 2, 10])
def test_prefetch_gives_the_same_items_in_order(depth):
    ahead = prefetch(batches(), depth)
    assert len(ahead) == 4
    items = list(ahead)
    assert len(items) == 4
    assert all(same(a, b) for a, b in zip(items, batches()))
    assert list(ahead) == []
    wait_until_no_thread()


def test_prefetch_works_ahead_but_no_further_than_told():
    made = []

    def source():
        for number in range(10):
            made.append(number)
            yield number

    with prefetch(source(), 3) as ahead:
        assert next(ahead) == 0
        deadline = time.monotonic() + 5
        while len(made) < 5 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05)
        assert len(made) == 5
    wait_until_no_thread()


def test_an_error_reaches_the_consumer_in_its_place():
    def source():
        yield 1
        raise DataError("broken")

    ahead = prefetch(source())
    assert next(ahead) == 1
    with pytest.raises(DataError, match="broken"):
        next(ahead)
    assert list(ahead) == []
    wait_until_no_thread()


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_an_abandoned_prefetcher_ends_its_thread(taken):
    ahead = prefetch(iter(range(1000)))
    for _ in range(taken):
        next(ahead)
    del ahead
    gc.collect()
    wait_until_no_thread()


def test_leaving_a_loop_early_ends_the_thread():
    for _ in range(20):
        with pytest.raises(KeyboardInterrupt):
            for item in prefetch(iter(range(1000)), 1):
                if item == 2:
                    raise KeyboardInterrupt
    gc.collect()
    wait_until_no_thread()


def test_a_closed_prefetcher_is_at_its_end():
    ahead = prefetch(iter(range(1000)))
    ahead.close()
    ahead.close()
    assert list(ahead) == []
    with pytest.raises(DataError, match="depth"):
        prefetch([], 0)


@pytest.mark.parametrize("flip", ["random", "alternating"])
@pytest.mark.parametrize("parts, count", [(2, 22), (3, 22), (3, 26)])
def test_parts_together_have_the_batches_of_one_with_the_same_pictures(parts, count, flip):
    data = dataset(count)
    settings = Augmentation(crop_padding=2, flip=flip, cutout=3, rotation=5.0)
    shared = {"seed": 3, "epoch": 1, "shuffle": True, "augmentation": settings}
    normalization = Normalization.channel(data)
    whole = Batches(data, 4 * parts, normalization, **shared)
    each = [
        Batches(data, 4, normalization, num_parts=parts, part_index=i, **shared)
        for i in range(parts)
    ]
    for step, (images, labels) in enumerate(whole):
        halves = [part[step] for part in each if step < len(part)]
        assert np.array_equal(np.concatenate([part[0] for part in halves]), images)
        assert np.array_equal(np.concatenate([part[1] for part in halves]), labels)
    assert max(map(len, each)) == len(whole)
    full = Batches(data, 4, normalization, num_parts=parts, part_index=0, drop_last=True)
    assert len(full) == count // (4 * parts)


def test_a_part_without_pictures_is_refused():
    data = dataset(2)
    with pytest.raises(DataError, match="leave none for part 0 of 3"):
        Batches(data, 4, Normalization.channel(data), num_parts=3, part_index=0)
    with pytest.raises(DataError, match="part_index 3 is outside 0 to"):
        Batches(data, 4, Normalization.channel(data), num_parts=3, part_index=3)
