"""Folders of class folders: layouts, the split, broken files, and what must not be taken along."""

import logging
from pathlib import Path

import numpy as np
import pytest
from pictures import break_some, fill, picture

from gluon_ran.data import DataError, load_dataset, load_folder, loading
from gluon_ran.data.folder import TEST_NAMES, split_files

COUNTS = {"blue": 10, "green": 5, "red": 20}


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "gluon_ran")
    return caplog


def brightest(dataset):
    """The class that each picture's colours say; blue, green and red are 0, 1 and 2."""
    return 2 - dataset.images.mean(axis=(1, 2)).argmax(axis=1)


def names_of(files):
    return [file.name for file in files]


@pytest.mark.parametrize("name", [*TEST_NAMES, "Test"])
def test_train_and_test_folders_are_taken_as_they_are(tmp_path, name):
    fill(tmp_path / "train", COUNTS)
    fill(tmp_path / name, {"blue": 1, "green": 2, "red": 3}, ".jpg")
    train, test = load_folder(tmp_path, 16)
    assert train.class_names == test.class_names == ("blue", "green", "red")
    assert np.bincount(train.labels).tolist() == [10, 5, 20]
    assert np.bincount(test.labels).tolist() == [1, 2, 3]
    assert train.images.shape == (35, 16, 16, 3) and test.images.shape == (6, 16, 16, 3)
    assert all(np.array_equal(brightest(part), part.labels) for part in (train, test))


def test_pictures_come_in_the_order_of_their_names_at_their_size(tmp_path):
    fill(tmp_path / "train", COUNTS)
    fill(tmp_path / "test", COUNTS)
    train, _ = load_folder(tmp_path, (20, 24))
    for number in range(5):
        assert np.array_equal(train.images[10 + number], np.asarray(picture("green", number)))


def test_without_a_test_folder_each_class_gives_a_fifth(tmp_path, log):
    train, test = load_folder(fill(tmp_path, COUNTS), 8)
    assert np.bincount(train.labels).tolist() == [8, 4, 16]
    assert np.bincount(test.labels).tolist() == [2, 1, 4]
    assert "7 of its 35 pictures are for the test" in log.text
    again = load_folder(tmp_path, 8)
    assert np.array_equal(train.images, again[0].images)
    assert np.array_equal(test.images, again[1].images)


def test_the_split_is_a_partition(tmp_path):
    files = [tmp_path / "a" / f"{number}.png" for number in range(50)]
    train, test = split_files(files, tmp_path / "a", 0.3)
    assert sorted(train + test) == sorted(files) and len(test) == 15
    assert not set(train) & set(test)


@pytest.mark.parametrize(("count", "tested"), [(1, 0), (2, 1), (3, 1), (7, 1), (8, 2), (10, 2)])
def test_small_classes_are_split_too(tmp_path, count, tested):
    files = [tmp_path / "a" / f"{number}.png" for number in range(count)]
    train, test = split_files(files, tmp_path / "a", 0.2)
    assert len(test) == tested and len(train) == count - tested


def test_the_split_hangs_on_names_alone(tmp_path):
    files = [tmp_path / "a" / f"{number}.png" for number in range(40)]
    _, test = split_files(files, tmp_path / "a", 0.2)
    elsewhere = [tmp_path / "moved" / "a" / file.name for file in files]
    _, moved = split_files(elsewhere, tmp_path / "moved" / "a", 0.2)
    assert names_of(moved) == names_of(test)
    other = [tmp_path / "b" / file.name for file in files]
    assert names_of(split_files(other, tmp_path / "b", 0.2)[1]) != names_of(test)


def test_one_file_more_moves_hardly_another(tmp_path):
    files = [tmp_path / "a" / f"{number}.png" for number in range(40)]
    before = set(split_files(files, tmp_path / "a", 0.2)[1])
    for extra in range(100, 120):
        more = [*files, tmp_path / "a" / f"{extra}.png"]
        assert len(before ^ set(split_files(more, tmp_path / "a", 0.2)[1])) <= 2


def test_a_class_may_be_called_train(tmp_path):
    train, _ = load_folder(fill(tmp_path, {"bus": 5, "train": 5}), 8)
    assert train.class_names == ("bus", "train")


def test_other_parts_are_named_as_not_used(tmp_path, log):
    for part in ("train", "test", "val"):
        fill(tmp_path / part, COUNTS)
    load_folder(tmp_path, 8)
    assert "the test is on test; not used: val" in log.text


def test_folders_within_a_class_are_searched_and_links_to_folders_are_not(tmp_path, log):
    fill(tmp_path / "data", COUNTS)
    fill(tmp_path / "data" / "green", {"more": 2})
    fill(tmp_path / "other", {"blue": 3})
    (tmp_path / "data" / "green" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "green" / "self.png").symlink_to("self.png")
    (tmp_path / "data" / "yellow").symlink_to(tmp_path / "other" / "blue")
    train, test = load_folder(tmp_path / "data", 8, broken="skip")
    assert train.class_names == ("blue", "green", "red", "yellow")
    assert np.bincount(np.r_[train.labels, test.labels]).tolist() == [10, 7, 20, 3]
    assert "links to folders 1" in log.text and "self.png" in log.text


def test_files_that_are_no_pictures_are_counted(tmp_path, log):
    fill(tmp_path, COUNTS)
    for name in (".DS_Store", "Thumbs.db", "notes.txt", "NOTES.TXT", "._000.png", "README"):
        (tmp_path / "red" / name).write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "loose.png").write_text("x")
    fill(tmp_path, {".hidden": 2, "__MACOSX": 1})
    train, test = load_folder(tmp_path, 8)
    assert len(train) + len(test) == 35 and train.num_classes == 3
    assert "passed over 6 that are no pictures by name" in log.text and ".txt 2" in log.text
    assert "1 pictures lie beside the class folders" in log.text


def test_broken_pictures_are_refused_by_default(tmp_path):
    fill(tmp_path, COUNTS)
    break_some(tmp_path / "green")
    with pytest.raises(DataError, match=r"^5 of 40 pictures are broken.*broken='skip'") as caught:
        load_folder(tmp_path, 8)
    assert str(tmp_path / "green") in str(caught.value)


def test_broken_pictures_are_left_out_by_choice_and_named(tmp_path, log):
    fill(tmp_path, COUNTS)
    whole = load_folder(tmp_path, 8)
    for part in ("train", "test"):
        fill(tmp_path / "both" / part, COUNTS)
        names = break_some(tmp_path / "both" / part / "green")
    train, test = load_folder(tmp_path / "both", 8, broken="skip")
    for part, name in ((train, "train"), (test, "test")):
        assert np.bincount(part.labels).tolist() == [10, 5, 20]
        assert np.array_equal(brightest(part), part.labels)
        for broken in names:
            assert str(tmp_path / "both" / name / "green" / broken) in log.text
    assert "left out 10 broken pictures of 80" in log.text
    assert sorted(np.r_[whole[0].labels, whole[1].labels]) == sorted(test.labels)


def test_a_class_left_empty_by_its_broken_pictures_is_an_error(tmp_path):
    fill(tmp_path / "train", COUNTS)
    fill(tmp_path / "test", COUNTS)
    break_some(tmp_path / "train" / "yellow")
    with pytest.raises(DataError, match="no picture is left to train on of 1 classes .yellow"):
        load_folder(tmp_path, 8, broken="skip")


def test_a_test_set_of_broken_pictures_alone_is_an_error(tmp_path):
    fill(tmp_path / "train", COUNTS)
    fill(tmp_path / "test", {"blue": 0, "green": 0})
    break_some(tmp_path / "test" / "blue")
    break_some(tmp_path / "test" / "green")
    with pytest.raises(DataError, match="the test set is left without a picture"):
        load_folder(tmp_path, 8, broken="skip")


def test_a_class_that_is_not_tested_is_a_warning_and_one_only_tested_an_error(tmp_path, log):
    fill(tmp_path / "train", COUNTS)
    fill(tmp_path / "test", {"blue": 1, "red": 1})
    _, test = load_folder(tmp_path, 8)
    assert test.num_classes == 3 and test.labels.tolist() == [0, 2]
    assert "the test set has no picture of 1 classes (green)" in log.text
    fill(tmp_path / "test", {"yellow": 1})
    with pytest.raises(DataError, match="not trained on .yellow"):
        load_folder(tmp_path, 8)


def make_nothing(folder):
    return folder / "nothing"


def make_file(folder):
    (folder / "file").touch()
    return folder / "file"


def make_loose(folder):
    picture("red", 0).save(folder / "a.png")
    return folder


def make_one_class(folder):
    return fill(folder, {"Images": 3})


def make_train_alone(folder):
    fill(folder / "train", COUNTS)
    return folder


def make_empty_class(folder):
    return fill(folder, {"blue": 2, "red": 0})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_nothing, "nothing does not exist"),
        (make_file, "file is a file"),
        (make_loose, "holds no folders"),
        (make_one_class, "holds only the folder Images"),
        (make_train_alone, "holds train and no test, val"),
        (make_empty_class, "red holds no picture"),
    ],
)
def test_other_layouts_are_errors_that_say_what_to_do(tmp_path, make, message):
    with pytest.raises(DataError, match=message):
        load_folder(make(tmp_path), 8)


@pytest.mark.parametrize(
    "settings", [{"fit": "stretch"}, {"broken": "ignore"}, {"size": 0}, {"test_share": 1.0}]
)
def test_settings_without_meaning_fail(tmp_path, settings):
    with pytest.raises(DataError, match=next(iter(settings))):
        load_folder(fill(tmp_path, COUNTS), **{"size": 8, **settings})


def test_what_does_not_fit_in_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    fill(tmp_path, COUNTS)
    monkeypatch.setattr(loading, "_available_memory", lambda: 3 * 2**30)
    monkeypatch.setattr(loading, "read_pictures", None)
    with pytest.raises(DataError, match="35 pictures of 6000x6000 need 3.5 GiB .* 3.0 GiB is free"):
        load_folder(tmp_path, 6000)


def test_the_memory_that_is_free_is_known_on_linux():
    free = loading._available_memory()
    assert free is None if not Path("/proc/meminfo").exists() else 2**20 < free < 2**50


@pytest.mark.parametrize("own, limits", [("0::/a/b\n", [600, 75]), ("0::/\n", [75]), ("", [75])])
def test_the_memory_of_a_container_is_known(tmp_path, own, limits):
    """Of a/b, a (without a limit) and the root of those that it sees; caches are given back."""
    (tmp_path / "cgroup").write_text("1:cpu:/x\n" + own)
    groups = tmp_path / "groups"
    (groups / "a" / "b").mkdir(parents=True)
    for folder, limit, used in ((groups / "a" / "b", "1000", 700), (groups, "100", 325),
                                (groups / "a", "max", 900)):  # fmt: skip
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text("anon 5\nactive_file 100\ninactive_file 200\n")
    assert list(loading._left_to_groups(tmp_path / "cgroup", groups)) == limits
    assert list(loading._left_to_groups(tmp_path / "none", groups)) == []


@pytest.mark.parametrize("splits", [("train",), ("test",), ("test", "train"), ()])
def test_the_splits_asked_for_are_read_alone(tmp_path, splits, log):
    both = dict(zip(("train", "test"), load_folder(fill(tmp_path, COUNTS), 8)))
    log.clear()
    found = load_folder(tmp_path, 8, splits=splits)
    assert len(found) == len(splits)
    for split, dataset in zip(splits, found):
        assert np.array_equal(dataset.images, both[split].images)
        assert np.array_equal(dataset.labels, both[split].labels)
    count = sum(len(both[split]) for split in splits)
    assert f"reading {count} pictures" in log.text


def test_the_splits_of_every_data_set_are_train_and_test(tmp_path):
    (test,) = load_dataset("digits", splits=["test"])
    assert np.array_equal(test.images, load_dataset("digits")[1].images)
    for name, folder in (("digits", None), ("folder", fill(tmp_path, COUNTS))):
        for splits in (["val"], ["test", "test"], "test"):
            with pytest.raises(DataError, match="splits .* each once"):
                load_dataset(name, folder, size=None if folder is None else 8, splits=splits)


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_the_catalog_gives_the_same(tmp_path, fit):
    fill(tmp_path, COUNTS)
    expected = load_folder(tmp_path, (8, 16), fit, "skip")
    got = load_dataset("folder", tmp_path, size=(8, 16), fit=fit, broken="skip")
    for a, b in zip(expected, got):
        assert np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)
