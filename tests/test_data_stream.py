"""Streams of batches: every record once, settled by (seed, epoch, step), shared and bounded."""

import logging
import threading
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import small
from pictures import fill, picture
from record_files import encode, some, write

from gluon_ran.data import (
    DataError,
    Normalization,
    RecordBatches,
    RecordFile,
    TrainTransform,
    ValidationTransform,
    pack_folder,
)
from gluon_ran.training import fit

COUNT = 53
NORMALIZATION = Normalization([120.0, 110.0, 100.0], [60.0, 55.0, 50.0])


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return RecordFile(write(tmp_path_factory.mktemp("stream") / "own.rec", some(COUNT)))


def batches(records, batch_size=8, transform=None, **settings):
    transform = transform or TrainTransform(12)
    settings = {"seed": 3, "epoch": 1, "shuffle": True, "threads": 3, **settings}
    return RecordBatches(records, batch_size, transform, NORMALIZATION, **settings)


def same(first, second):
    first, second = list(first), list(second)
    return len(first) == len(second) and all(
        np.array_equal(a, b) for one, two in zip(first, second) for a, b in zip(one, two)
    )


def labels(items):
    return [label for _, each in items for label in each.tolist()]


@pytest.mark.parametrize("batch_size", [1, 8, 9, 60])
def test_an_epoch_holds_every_record_once(records, batch_size):
    stream = batches(records, batch_size)
    items = list(stream)
    assert len(items) == len(stream) == -(-COUNT // batch_size)
    assert sorted(labels(items)) == list(range(COUNT))
    images, first = items[0]
    count = min(batch_size, COUNT)
    assert images.shape == (count, 3, 12, 12) and images.dtype == np.float32
    assert first.shape == (count,) and first.dtype == np.int32
    assert images.flags.c_contiguous and np.isfinite(images).all()


def test_order_is_the_files_unless_shuffled(records):
    assert labels(batches(records, shuffle=False)) == list(range(COUNT))
    orders = [labels(batches(records, seed=s, epoch=e)) for s in (3, 4) for e in (0, 1)]
    assert len(set(map(tuple, orders))) == 4


def test_pictures_are_what_the_transform_makes_of_their_record(records):
    transform = ValidationTransform(9, 10)
    for images, numbers in batches(records, transform=transform):
        for image, number in zip(images, numbers.tolist()):
            expected = np.empty_like(image)
            transform(records.read(number)[1], "here", None, NORMALIZATION, expected)
            assert np.array_equal(image, expected)


def test_batches_do_not_depend_on_threads(records):
    expected = list(batches(records, threads=1, ahead=1))
    for threads, ahead in ((2, 1), (5, 4), (None, 3)):
        assert same(batches(records, threads=threads, ahead=ahead), expected)
        assert same(batches(records, threads=threads, ahead=ahead), expected)


def test_crops_and_colours_are_others_in_each_epoch_and_batch(tmp_path):
    one = some(1)[0]
    records = RecordFile(write(tmp_path / "one.rec", [one] * 32))
    pictures = [
        image.tobytes()
        for seed in (0, 1)
        for epoch in (0, 1)
        for images, _ in batches(records, seed=seed, epoch=epoch)
        for image in images
    ]
    assert len(set(pictures)) == 4 * 32


def test_an_epoch_goes_on_from_any_step(records):
    stream = batches(records)
    expected = list(stream)
    for step in (0, 1, 5, 6, 7):
        assert same(stream.from_step(step), expected[step:])


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("num_parts", [2, 3])
def test_parts_together_are_one_part_with_their_batches_joined(records, num_parts, drop_last):
    whole = list(batches(records, 4 * num_parts, drop_last=drop_last))
    parts = [
        list(batches(records, 4, drop_last=drop_last, num_parts=num_parts, part_index=index))
        for index in range(num_parts)
    ]
    for step, (images, numbers) in enumerate(whole):
        shares = [part[step] for part in parts if step < len(part)]
        assert np.array_equal(np.concatenate([each for each, _ in shares]), images)
        assert np.array_equal(np.concatenate([each for _, each in shares]), numbers)
    assert {len(part) for part in parts} <= {len(whole), len(whole) - (not drop_last)}
    if drop_last:
        assert {len(each) for part in parts for _, each in part} == {4}
    else:
        assert sorted(sum(map(labels, parts), [])) == list(range(COUNT))


def test_a_part_without_a_share_of_the_rest_has_a_batch_less(tmp_path):
    records = RecordFile(write(tmp_path / "a.rec", some(9)))
    parts = [batches(records, 2, num_parts=4, part_index=index) for index in range(4)]
    assert [len(part) for part in parts] == [len(list(part)) for part in parts] == [1, 1, 1, 2]


@pytest.mark.parametrize(
    "cut",
    [lambda data: data[:-20], lambda data: b"text", lambda data: b""],
)
def test_a_broken_picture_is_named_and_refused_or_left_out(tmp_path, caplog, cut):
    good = some(20, "JPEG")
    broken = [(n, cut(data)) if n in (4, 13) else (n, data) for n, data in good]
    records = RecordFile(write(tmp_path / "broken.rec", broken))
    with pytest.raises(DataError, match=r"broken.rec, record 4: .*broken='skip'"):
        list(batches(records, shuffle=False))
    caplog.set_level(logging.WARNING, "gluon_ran")
    items = list(batches(records, broken="skip"))
    assert sorted(labels(items)) == [n for n in range(20) if n not in (4, 13)]
    assert sum("left out: " in message for message in caplog.messages) == 2
    assert {"record 4" in m for m in caplog.messages} == {True, False}
    whole = RecordFile(write(tmp_path / "whole.rec", good))
    for (images, numbers), (all_images, all_numbers) in zip(items, batches(whole)):
        kept = np.isin(all_numbers, (4, 13), invert=True)
        assert np.array_equal(images, all_images[kept])
        assert np.array_equal(numbers, all_numbers[kept])


def test_a_batch_of_nothing_but_broken_pictures_is_left_out_where_it_may(tmp_path):
    """In a test, that is: a batch of training is a step."""
    records = RecordFile(write(tmp_path / "a.rec", [*some(2), (2, b"x"), (3, b"x")]))
    for broken_last in (False, True):
        order = [0, 1, 2, 3] if broken_last else [2, 3, 0, 1]
        stream = batches(records, 2, shuffle=False, broken="skip", drop_broken=True)
        stream._order = np.array(order)
        (batch,) = stream
        assert len(batch[0]) == 2 and stream.left_out == {int(broken_last): 2}
        training = batches(records, 2, shuffle=False, broken="skip")
        training._order = np.array(order)
        with pytest.raises(DataError, match="all 2 pictures of batch . are broken"):
            list(training)
    stream._order = np.array([2, 3, 3, 2])
    with pytest.raises(DataError, match="all of its pictures are broken"):
        list(stream)


def test_damage_to_the_pair_is_never_skipped(tmp_path):
    rec = write(tmp_path / "a.rec", some(6))
    idx, whole = rec.with_suffix(".idx"), rec.read_bytes()
    rec.write_bytes(whole[:-40])
    with pytest.raises(DataError, match="record 5: the file ends inside it"):
        list(batches(RecordFile(rec), broken="skip"))
    rec.write_bytes(whole)
    lines = idx.read_text().splitlines(keepends=True)
    idx.write_text("".join(lines[:2] + lines[3:]))
    with pytest.raises(DataError, match="record 1: .* no pair"):
        list(batches(RecordFile(rec), 5, broken="skip"))


@pytest.mark.parametrize("byte", [0, 4, 7, 11, 13])
def test_damage_to_one_records_frame_or_header_is_left_out_alone(tmp_path, byte):
    """The mark, both ends of the length, the number of labels, the label."""
    rec = write(tmp_path / "a.rec", some(12))
    start = int(rec.with_suffix(".idx").read_text().splitlines()[5].split()[1])
    damaged = bytearray(rec.read_bytes())
    damaged[start + byte] ^= 0x55
    rec.write_bytes(damaged)
    with pytest.raises(DataError, match=r"record 5: .*\(--broken skip\)"):
        list(batches(RecordFile(rec)))
    stream = batches(RecordFile(rec, list("abcdefghijkl")), 4, broken="skip", shuffle=False)
    assert labels(stream) == [n for n in range(12) if n != 5]
    assert stream.left_out == {1: 1}


def test_what_is_left_out_is_counted_in_each_pass_and_named_once(tmp_path, caplog):
    data = [(n, b"x" if n in (1, 9, 10) else encoded) for n, encoded in some(14)]
    records = RecordFile(write(tmp_path / "a.rec", data))
    caplog.set_level(logging.WARNING, "gluon_ran")
    for _ in range(2):
        stream = batches(records, 4, shuffle=False, broken="skip")
        list(stream)
        assert stream.left_out == {0: 1, 2: 2}
    messages = caplog.messages
    assert sum(message.startswith("left out: ") for message in messages) == 3
    assert messages.count(f"left out 3 of 14 pictures of {records.path}") == 2
    caplog.clear()
    list(batches(records, 4, shuffle=False, broken="skip", drop_last=True).from_step(1))
    assert caplog.messages == [f"left out 2 of 8 pictures of {records.path} from batch 2 on"]
    list(batches(records, 4, shuffle=False, broken="skip").from_step(3))
    assert len(caplog.messages) == 1


def decoding():
    return [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]


def test_threads_end_with_the_epoch_and_when_it_is_left(records):
    assert not decoding()
    for _ in batches(records):
        assert decoding()
    assert not decoding()
    stream = iter(batches(records, 2))
    next(stream)
    del stream
    assert not decoding()


def test_no_more_batches_are_made_ahead_than_told(records, monkeypatch):
    stream = batches(records, 8, ahead=2)
    read, made = records.read, []
    monkeypatch.setattr(records, "read", lambda number: made.append(number) or read(number))
    given = iter(stream)
    next(given)
    deadline = time.monotonic() + 10
    while len(made) < 24 and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    assert len(made) == 24
    next(given)


def test_a_batch_that_is_kept_stays_as_it_was(records):
    stream = batches(records, 8, ahead=1)
    kept = [(images, images.copy()) for images, _ in stream]
    assert all(np.array_equal(images, copy) for images, copy in kept)


def test_memory_does_not_grow_with_the_records(tmp_path):
    """Peak of what Python and NumPy hold, over an epoch of few and of many records."""

    def peak(count):
        records = RecordFile(write(tmp_path / f"{count}.rec", [(0, encoded)] * count))
        tracemalloc.start()
        for _ in batches(records, 8, threads=2, ahead=1):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    encoded = encode(picture("red", 0), "PNG")
    peak(40)  # what is imported and set up once
    few, many = peak(40), peak(640)
    assert many - few < 600 * 100 < 600 * len(encoded) / 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"ahead": 0}, "ahead must be at least 1"),
        ({"num_parts": 2, "part_index": 2}, "part_index 2"),
        ({"num_parts": 0}, "part_index 0"),
        ({"batch_size": 54, "drop_last": True}, "53 records fill no batch of 54"),
        ({"batch_size": 1, "num_parts": 60}, "for part 0 of 60"),
        ({"broken": "keep"}, "broken 'keep' is unknown"),
    ],
)
def test_settings_without_meaning_are_errors(records, settings, message):
    with pytest.raises(DataError, match=message):
        batches(records, **settings)


def test_a_mean_picture_is_refused(records):
    normalization = Normalization(np.zeros((12, 12, 3)), np.ones(3))
    with pytest.raises(DataError, match="mean a channel"):
        RecordBatches(records, 8, TrainTransform(12), normalization)


def test_a_network_trains_on_streams(tmp_path):
    """From folders to a network that begins to tell three colours from each other."""
    fill(tmp_path / "pictures", {"blue": 12, "green": 12, "red": 12})
    pack_folder(tmp_path / "pictures", tmp_path / "own.rec")
    records = RecordFile(tmp_path / "own.rec")
    transform = TrainTransform(16, brightness=0.1, contrast=0.1, saturation=0.1)
    history = fit(
        small.net(),
        replace(small.RECIPE, epochs=2),
        lambda epoch: batches(records, 9, transform, epoch=epoch, drop_last=True),
        batches(records, 10, ValidationTransform(16), shuffle=False),
        classes=len(records.class_names),
    )
    assert history.epochs[-1].train_top1 > 0.7
    assert history.epochs[-1].val_top1 > 0.5
