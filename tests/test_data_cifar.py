"""CIFAR from archives, binary files and records, whole and damaged."""

import hashlib
import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.data import DataError, cifar, load_dataset
from gluon_ran.data.cifar import CIFAR

import mxnet as mx

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10"
SMALL = {
    "cifar10": replace(
        CIFAR["cifar10"],
        train=tuple((name, 20) for name, _ in CIFAR["cifar10"].train),
        test=(("test_batch.bin", 10),),
    ),
    "cifar100": replace(CIFAR["cifar100"], train=(("train.bin", 200),), test=(("test.bin", 100),)),
}


def contents_of(files):
    """The binary files' bytes by name, and the pictures and labels that they hold."""
    rng = np.random.default_rng(0)
    contents, splits = {}, []
    for names in (files.train, files.test):
        images, labels = [], []
        for name, count in names:
            classes = np.arange(count) % len(files.class_names)
            rng.shuffle(classes)
            planes = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
            before = [classes] if files.label_bytes == 1 else [classes // 5, classes]
            contents[name] = np.c_[np.stack(before, 1).astype(np.uint8), planes].tobytes()
            images.append(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            labels.append(classes)
        splits.append((np.concatenate(images), np.concatenate(labels)))
    return contents, splits


def pack(path, members):
    """Writes a .tar.gz of (name, content) pairs; content may be a ready TarInfo."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def unpack_to(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def pack_small(path, name, extra=()):
    files = SMALL[name]
    contents, _ = contents_of(files)
    pack(path, [*((f"{files.folder}/{file}", data) for file, data in contents.items()), *extra])


def know(monkeypatch, name, archive=None, **changes):
    """Makes the small files the published ones, and the MD5 that of `archive`."""
    if archive is not None:
        changes["md5"] = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setitem(CIFAR, name, replace(SMALL[name], **changes))
    return CIFAR[name]


def check(splits, name):
    for split, (images, labels) in zip(splits, contents_of(SMALL[name])[1]):
        assert np.array_equal(split.images, images)
        assert np.array_equal(split.labels, labels)
        assert split.num_classes == len(CIFAR[name].class_names)


both = pytest.mark.parametrize("name", ["cifar10", "cifar100"])


def test_what_is_published():
    assert CIFAR["cifar10"].files["data_batch_5.bin"] == 30_730_000
    assert CIFAR["cifar100"].files == {"train.bin": 153_700_000, "test.bin": 30_740_000}
    assert [len(set(CIFAR[name].class_names)) for name in CIFAR] == [10, 100]


@both
@pytest.mark.parametrize("below", [".", "cifar-10-batches-bin", "anything"])
def test_unpacked_files_are_found(tmp_path, monkeypatch, name, below):
    know(monkeypatch, name)
    (tmp_path / "another").mkdir()
    unpack_to(tmp_path / below, contents_of(SMALL[name])[0])
    check(load_dataset(name, str(tmp_path)), name)


@both
def test_an_archive_is_read_where_it_lies(tmp_path, monkeypatch, name):
    archive = tmp_path / "below" / SMALL[name].archive
    archive.parent.mkdir()
    pack_small(archive, name)
    know(monkeypatch, name, archive)
    check(load_dataset(name, tmp_path), name)
    assert os.listdir(archive.parent) == [archive.name]


@both
def test_the_cache_is_filled_once(tmp_path, monkeypatch, name):
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    files = know(monkeypatch, name)
    fetched = []

    def download(url, path, md5):
        fetched.append((url, md5))
        path.parent.mkdir(parents=True)
        pack_small(path, name, [("../outside.bin", b"x"), ("/tmp/outside.bin", b"x")])
        return path

    monkeypatch.setattr(cifar, "download", download)
    check(load_dataset(name), name)
    check(load_dataset(name), name)
    assert fetched == [(files.url, files.md5)]
    cache = tmp_path / "datasets" / name
    assert sorted(os.listdir(cache / files.folder)) == sorted(files.files)
    assert set(os.listdir(tmp_path)) == {"datasets"}
    assert set(os.listdir(cache)) == {".lock", files.archive, files.folder}


def test_files_that_mxnets_loader_unpacked_are_used(tmp_path, monkeypatch):
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    know(monkeypatch, "cifar10")
    unpack_to(tmp_path / "datasets" / "cifar10", contents_of(SMALL["cifar10"])[0])
    check(load_dataset("cifar10"), "cifar10")


def link(name, kind, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "test_member",
    [
        ("cifar-10-batches-bin/test_batch.bin", b"short"),
        ("../cifar-10-batches-bin/test_batch.bin", None),
        ("test_batch.bin", None),
        ("", link("cifar-10-batches-bin/test_batch.bin", tarfile.SYMTYPE, "/etc/hostname")),
        (
            "",
            link(
                "cifar-10-batches-bin/test_batch.bin",
                tarfile.LNKTYPE,
                "cifar-10-batches-bin/data_batch_1.bin",
            ),
        ),
    ],
)
def test_members_of_another_place_size_or_kind_do_not_count(tmp_path, monkeypatch, test_member):
    contents, _ = contents_of(SMALL["cifar10"])
    archive = tmp_path / SMALL["cifar10"].archive
    test = contents.pop("test_batch.bin")
    members = [(f"cifar-10-batches-bin/{file}", data) for file, data in contents.items()]
    pack(archive, [*members, (test_member[0], test if test_member[1] is None else test_member[1])])
    know(monkeypatch, "cifar10", archive)
    with pytest.raises(DataError, match="test_batch.bin is not in it"):
        load_dataset("cifar10", tmp_path)


def test_a_damaged_archive_is_an_error(tmp_path, monkeypatch):
    archive = tmp_path / SMALL["cifar10"].archive
    pack_small(archive, "cifar10")
    know(monkeypatch, "cifar10", archive)
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-100])
    with pytest.raises(DataError, match="MD5"):
        load_dataset("cifar10", tmp_path)
    for damaged in (whole[: len(whole) // 2], whole[:50], b"", b"no"):
        archive.write_bytes(damaged)
        know(monkeypatch, "cifar10", archive)
        with pytest.raises(DataError, match="is damaged|is not in it"):
            load_dataset("cifar10", tmp_path)


@both
@pytest.mark.parametrize("cut", [1, 3073, 3074, -1])
def test_a_file_of_another_size_is_an_error(tmp_path, monkeypatch, name, cut):
    know(monkeypatch, name)
    contents, _ = contents_of(SMALL[name])
    file, content = next(iter(contents.items()))
    contents[file] = content[:-cut] if cut > 0 else content + b"?"
    unpack_to(tmp_path, contents)
    with pytest.raises(DataError, match=f"{file} has .* bytes and must have"):
        load_dataset(name, tmp_path)


@both
def test_a_damaged_label_is_an_error(tmp_path, monkeypatch, name):
    know(monkeypatch, name)
    contents, _ = contents_of(SMALL[name])
    file, content = next(iter(contents.items()))
    at = SMALL[name].label_bytes - 1
    for label, message in ((200, "label 200 of picture 0"), ((content[at] + 1) % 10, "equally")):
        unpack_to(tmp_path, {**contents, file: content[:at] + bytes([label]) + content[at + 1 :]})
        with pytest.raises(DataError, match=message):
            load_dataset(name, tmp_path)


def test_a_hole_of_zeros_is_an_error(tmp_path, monkeypatch):
    know(monkeypatch, "cifar10")
    contents, _ = contents_of(SMALL["cifar10"])
    size = len(contents["data_batch_2.bin"])
    contents["data_batch_2.bin"] = contents["data_batch_2.bin"][: size // 2].ljust(size, b"\0")
    unpack_to(tmp_path, contents)
    with pytest.raises(DataError, match="equally"):
        load_dataset("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ([], "is empty"),
        (["readme.txt"], "holds no cifar10"),
        (["data_batch_1.bin", "test_batch.bin"], "lacks data_batch_2.bin, data_batch_3.bin"),
        (["cifar10_train.rec"], "lacks cifar10_test.rec"),
    ],
)
def test_a_folder_that_lacks_files_says_which(tmp_path, there, message):
    for name in there:
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=message) as caught:
        load_dataset("cifar10", tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "cifar-10-binary.tar.gz" in str(caught.value)


def test_a_folder_within_that_may_not_be_read_is_passed_over(tmp_path, monkeypatch):
    """As lost+found, where the folder is a whole disk; here by what the system says of its name."""
    for name in ("data", "lost+found"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(cifar.os, "access", lambda path, mode: path.name != "lost+found")
    assert cifar._places(tmp_path) == [tmp_path, tmp_path / "data"]
    with pytest.raises(DataError, match="lost.found can't be read: check rights"):
        cifar._places(tmp_path, "lost+found")


def test_a_folder_that_is_none_is_an_error(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_dataset("cifar10", tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        load_dataset("cifar10", tmp_path / "file")


@pytest.mark.parametrize("train", ["train", "cifar100_train"])
def test_records_of_another_data_set_are_an_error(tmp_path, train):
    colours = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((32, 32, 3), np.uint8)
    for split in (train, train.replace("train", "test")):
        writer = mx.recordio.MXRecordIO(str(tmp_path / f"{split}.rec"), "w")
        for label, colour in enumerate(colours):
            stream = io.BytesIO()
            Image.fromarray(colour).save(stream, "PNG")
            header = mx.recordio.IRHeader(0, float(label), label, 0)
            writer.write(mx.recordio.pack(header, stream.getvalue()))
        writer.close()
    with pytest.raises(DataError, match="no picture of class 10 "):
        load_dataset("cifar100", tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared CIFAR-10 records are not here")
def test_the_real_records_load():
    train, test = load_dataset("cifar10", SHARED.parent)
    assert np.bincount(train.labels).tolist() == [5000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert train.class_names[9] == "truck"
    mean = train.images.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(mean, [125.3, 123.0, 113.9], atol=0.3)
