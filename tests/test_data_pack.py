"""Packing: what MXNet's reader and our own find in the file, and what is refused."""

import io
import logging
import resource
import sys

import numpy as np
import pytest
from pictures import break_some, deep_png, fill, picture
from PIL import Image

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.data import DataError, RecordFile, load_record_pair, pack_folder
from gluon_ran.data.pictures import decode

import mxnet as mx

COUNTS = {"blue": 3, "green": 2, "red": 4}


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path / "pictures", COUNTS)


def smooth(width, height):
    """Few colours that run into each other, which JPEG keeps well."""
    low = np.random.default_rng(1).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(low).resize((width, height), Image.BICUBIC)


def contents(rec):
    records = RecordFile(rec)
    return [records.read(number) for number in range(len(records))]


def opened(encoded):
    return Image.open(io.BytesIO(encoded))


def test_files_go_in_byte_for_byte_under_the_number_of_their_class(folder, tmp_path):
    rec = tmp_path / "new" / "own_train.rec"
    assert pack_folder(folder, rec) == 9
    expected = sorted(
        (label, file.read_bytes())
        for label, name in enumerate(COUNTS)
        for file in (folder / name).iterdir()
    )
    found = contents(rec)
    assert sorted(found) == expected and found != expected
    assert RecordFile(rec).class_names == tuple(COUNTS)
    assert sorted(file.name for file in rec.parent.iterdir()) == [
        "own_classes.txt", "own_train.idx", "own_train.rec"
    ]  # fmt: skip


def test_packing_twice_gives_the_same_bytes(folder, tmp_path):
    for name, threads in (("a.rec", 1), ("b.rec", 3)):
        pack_folder(folder, tmp_path / name, shorter_side=8, threads=threads)
    for suffix in (".rec", ".idx"):
        first, second = ((tmp_path / name).with_suffix(suffix).read_bytes() for name in "ab")
        assert first == second


def test_mxnets_iterator_reads_it(folder, tmp_path):
    rec = tmp_path / "a.rec"
    pack_folder(folder, rec)
    iterator = mx.io.ImageRecordIter(
        path_imgrec=str(rec), data_shape=(3, 20, 24), batch_size=9, verbose=False
    )
    batch = next(iter(iterator))
    labels, images = batch.label[0].asnumpy(), batch.data[0].asnumpy()
    assert sorted(labels) == sorted(label for label, _ in contents(rec))
    assert np.array_equal(2 - images.mean(axis=(2, 3)).argmax(axis=1), labels)


def test_a_pair_is_a_data_set_in_memory_too(folder, tmp_path):
    for part in ("train", "val"):
        pack_folder(folder, tmp_path / f"own_{part}.rec")
    train, test = load_record_pair(tmp_path, 8)
    assert train.class_names == test.class_names == tuple(COUNTS) and len(train) == 9


def test_larger_pictures_shrink_and_smaller_ones_stay(tmp_path):
    folder = fill(tmp_path / "pictures", {"a": 1, "b": 1})
    smooth(90, 40).save(folder / "a" / "000.png")
    small = (folder / "b" / "000.png").read_bytes()
    pack_folder(folder, tmp_path / "a.rec", shorter_side=32)
    (shrunk,) = [encoded for label, encoded in contents(tmp_path / "a.rec") if label == 0]
    assert opened(shrunk).size == (72, 32) and opened(shrunk).format == "JPEG"
    expected = np.asarray(smooth(90, 40).resize((72, 32), Image.BILINEAR), int)
    assert np.abs(np.asarray(opened(shrunk), int) - expected).mean() < 3
    assert (1, small) in contents(tmp_path / "a.rec")


def test_a_worse_quality_takes_less_room(folder, tmp_path):
    for name in COUNTS:
        picture(name, 0, 100, 100).save(folder / name / "large.png")
    for quality in (95, 30):
        pack_folder(folder, tmp_path / f"{quality}.rec", shorter_side=64, quality=quality)
    assert (tmp_path / "30.rec").stat().st_size < 0.8 * (tmp_path / "95.rec").stat().st_size


def test_what_readers_decode_in_different_ways_becomes_a_plain_jpeg(tmp_path):
    folder = fill(tmp_path / "pictures", {"a": 1, "b": 1})
    odd = smooth(48, 40)
    exif = Image.Exif()
    exif[0x0112] = 6
    alpha = odd.copy()
    alpha.putalpha(100)
    odd.save(folder / "a" / "turned.jpg", exif=exif)
    odd.convert("CMYK").save(folder / "a" / "cmyk.jpg")
    alpha.save(folder / "a" / "alpha.png")
    odd.quantize(64, dither=Image.NONE).save(folder / "a" / "palette.png")
    odd.save(folder / "a" / "bitmap.bmp")
    (folder / "a" / "deep.png").write_bytes(deep_png(257 * np.asarray(odd, np.uint16)))
    expected = {}
    for file in (folder / "a").iterdir():
        if file.name != "000.png":
            expected[file.name] = np.asarray(decode(file.read_bytes(), file), int)
    pack_folder(folder, tmp_path / "a.rec")
    packed = [opened(encoded) for label, encoded in contents(tmp_path / "a.rec") if label == 0]
    plain = [each for each in packed if each.format == "JPEG"]
    assert len(plain) == len(expected) == 6
    assert all(each.mode == "RGB" and not each.getexif() for each in plain)
    for pixels in expected.values():
        assert any(
            np.asarray(each).shape == pixels.shape
            and np.abs(np.asarray(each, int) - pixels).mean() < 6
            for each in plain
        )


def test_broken_pictures_are_refused_and_nothing_is_left(folder, tmp_path):
    break_some(folder / "red")
    with pytest.raises(DataError, match=r"(cut|empty|text|nowhere)\.\w+.*broken='skip'"):
        pack_folder(folder, tmp_path / "a.rec")
    assert [file.name for file in tmp_path.iterdir()] == ["pictures"]


def test_broken_pictures_can_be_left_out_by_name(folder, tmp_path, caplog):
    names = break_some(folder / "red")
    caplog.set_level(logging.WARNING, "gluon_ran")
    assert pack_folder(folder, tmp_path / "a.rec", broken="skip") == 9
    for name in names:
        assert sum(name in message for message in caplog.messages) == 1
    assert len(contents(tmp_path / "a.rec")) == 9


def test_a_folder_of_broken_pictures_alone_is_an_error(tmp_path):
    for name in "ab":
        (tmp_path / "pictures" / name).mkdir(parents=True)
        (tmp_path / "pictures" / name / "text.jpg").write_text("text")
    with pytest.raises(DataError, match="every picture is broken"):
        pack_folder(tmp_path / "pictures", tmp_path / "a.rec", broken="skip")
    assert [file.name for file in tmp_path.iterdir()] == ["pictures"]


def test_a_second_part_needs_the_same_classes(folder, tmp_path):
    pack_folder(folder, tmp_path / "own_train.rec")
    other = fill(tmp_path / "other", {"blue": 1, "red": 1})
    with pytest.raises(DataError, match=r"own_classes.txt has other classes than the 2 folders"):
        pack_folder(other, tmp_path / "own_val.rec")
    assert not (tmp_path / "own_val.rec").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rec": "a.txt"}, "name of a .rec file"),
        ({"quality": 0}, "quality 0"),
        ({"shorter_side": 0}, "shorter_side 0"),
        ({"broken": "keep"}, "broken 'keep'"),
    ],
)
def test_settings_without_meaning_are_errors(folder, tmp_path, settings, message):
    settings = {"rec": "a.rec", **settings}
    rec = tmp_path / settings.pop("rec")
    with pytest.raises(DataError, match=message):
        pack_folder(folder, rec, **settings)


@pytest.mark.parametrize(
    "name, told", [("a\nb", r"'a\\nb'.*can't stand on a line"), ("caf\udce9", r"caf\\udce9.*UTF-8")]
)
def test_a_name_that_a_list_of_classes_cannot_hold_is_refused_ahead(tmp_path, name, told):
    try:
        folder = fill(tmp_path / "pictures", {name: 1, "c": 1})
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system has no such names")
    if sys.getfilesystemencoding() != "utf-8":
        pytest.skip("names are not in UTF-8 here")
    with pytest.raises(DataError, match=told):
        pack_folder(folder, tmp_path / "a.rec")
    assert [file.name for file in tmp_path.iterdir()] == ["pictures"]


def test_what_no_jpeg_can_hold_is_named_and_can_be_left_out(folder, tmp_path):
    Image.new("RGBA", (2, 65_501)).save(folder / "red" / "long.png")
    with pytest.raises(DataError, match="long.png: can't be made a JPEG of 2x65501 pixels"):
        pack_folder(folder, tmp_path / "a.rec")
    assert pack_folder(folder, tmp_path / "a.rec", broken="skip") == 9
    assert pack_folder(folder, tmp_path / "b.rec", shorter_side=1) == 9 + 1


def test_names_and_pictures_come_together(folder, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(*paths):
        assert len(list(tmp_path.glob(".a*.tmp"))) == 3
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr("os.replace", kill)
        pack_folder(folder, tmp_path / "a.rec")
    assert not list(tmp_path.glob("a*"))


@pytest.mark.parametrize("short", [1, 300, "all"])
def test_files_that_do_not_fit_leave_those_that_are_there(folder, tmp_path, short):
    """A file may grow up to a limit, as where the disk is full; MXNet's writer does not tell."""
    rec = tmp_path / "a.rec"
    pack_folder(folder, rec)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    picture("blue", 0).save(folder / "blue" / "another.png")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    most = 0 if short == "all" else size_of_pack(folder, tmp_path / "whole") - short
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limit[1]))
    try:
        with pytest.raises(OSError, match=r"a\.rec"):
            pack_folder(folder, rec)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    after = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    assert after == before


def size_of_pack(folder, elsewhere):
    pack_folder(folder, elsewhere / "a.rec")
    return (elsewhere / "a.rec").stat().st_size


def test_what_a_kill_left_goes_unless_another_one_packs_there(folder, tmp_path):
    left = [tmp_path / f".{name}.77.tmp" for name in ("b.rec", "b.idx", "b_classes.txt")]
    others = [tmp_path / name for name in (".a.rec.77.tmp", ".b.rec.tmp", "b.rec.77.tmp")]

    def beside(done, count):
        if done == 1:
            for path in (*left, *others):
                path.write_text("half of it")
            pack_folder(folder, tmp_path / "b.rec")

    pack_folder(folder, tmp_path / "a.rec", progress=beside)
    assert all(path.exists() for path in (*left, *others))
    pack_folder(folder, tmp_path / "b.rec")
    assert not any(path.exists() for path in left) and all(path.exists() for path in others)


def test_progress_is_told_of_every_picture_broken_ones_too(folder, tmp_path):
    broken, seen = break_some(folder / "red"), []
    pack_folder(folder, tmp_path / "a.rec", broken="skip", progress=lambda *done: seen.append(done))
    assert seen == [(n, 9 + len(broken)) for n in range(1, 10 + len(broken))]
