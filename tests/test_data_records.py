"""RecordIO reading: against MXNet's writer, against real files, and against damage."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.data import DataError, load_records
from gluon_ran.data.records import make_record, read_records

import mxnet as mx

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10"
NAMES = tuple("abcd")
COUNT = 12


def picture(seed, size=(32, 32)):
    low = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(low).resize(size[::-1], Image.BICUBIC)


def encode(image, kind="JPEG", **settings):
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    return stream.getvalue()


def write(path, records):
    """Writes (header, picture) pairs with MXNet's own writer."""
    rec = path / "train.rec"
    writer = mx.recordio.MXIndexedRecordIO(str(rec.with_suffix(".idx")), str(rec), "w")
    for number, (header, encoded) in enumerate(records):
        if header.flag:  # MXNet's pack can't: it calls NumPy's deprecated tostring
            labels = struct.pack(f"<{header.flag}f", *header.label)
            writer.write_idx(number, struct.pack("<IfQQ", header.flag, 0, 0, 0) + labels + encoded)
        else:
            writer.write_idx(number, mx.recordio.pack(header, encoded))
    writer.close()
    return rec


def header(label, number=0, flag=0):
    return mx.recordio.IRHeader(flag, label, number, 0)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    records = [(header(float(n % 4), n), encode(picture(n))) for n in range(COUNT)]
    return write(tmp_path_factory.mktemp("small"), records)


@pytest.fixture
def copy(small, tmp_path):
    rec = tmp_path / "copy.rec"
    rec.write_bytes(small.read_bytes())
    return rec


def with_index(rec, small):
    rec.with_suffix(".idx").write_bytes(small.with_suffix(".idx").read_bytes())


def test_pictures_and_labels_come_back(small):
    dataset = load_records(small, NAMES)
    assert dataset.labels.tolist() == [n % 4 for n in range(COUNT)]
    for number, image in enumerate(dataset.images):
        expected = Image.open(io.BytesIO(encode(picture(number))))
        assert np.array_equal(image, np.asarray(expected))


def test_png_grey_and_label_arrays_are_read(tmp_path):
    grey = picture(0).convert("L")
    rec = write(
        tmp_path,
        [(header([3.0], flag=1), encode(picture(1), "PNG")), (header(1.0), encode(grey, "PNG"))],
    )
    dataset = load_records(rec, NAMES)
    assert dataset.labels.tolist() == [3, 1]
    assert np.array_equal(dataset.images[0], np.asarray(picture(1)))
    assert np.array_equal(dataset.images[1], np.repeat(np.asarray(grey)[..., None], 3, axis=2))


@pytest.mark.parametrize("progressive", [False, True])
def test_progressive_and_other_sizes_are_read(tmp_path, progressive):
    encoded = encode(picture(0, (20, 24)), progressive=progressive, quality=50)
    rec = write(tmp_path, [(header(0.0), encoded)])
    assert load_records(rec, NAMES, (20, 24)).images.shape == (1, 20, 24, 3)


def test_records_that_hold_the_magic_number_are_joined(tmp_path):
    magic = struct.pack("<I", 0xCED7230A)
    contents = [magic, magic * 3, b"abcd" + magic + b"xyz", b"a" + magic, b"", b"abc" + magic * 2]
    path = tmp_path / "magic.rec"
    writer = mx.recordio.MXRecordIO(str(path), "w")
    for content in contents:
        writer.write(content)
    writer.close()
    assert read_records(path)[0] == contents


def test_records_are_written_to_the_byte_as_mxnet_writes_them(tmp_path):
    magic = struct.pack("<I", 0xCED7230A)
    pieces, rng = [magic, b"a", b"bcde", magic[:2]], np.random.default_rng(0)
    pictures = [b"", magic, magic * 2, b"abc" + magic, encode(picture(0))]
    pictures += [b"".join(pieces[n] for n in rng.integers(0, 4, count)) for count in range(60)]
    rec = write(tmp_path, [(header(float(n % 7), n), each) for n, each in enumerate(pictures)])
    ours = [make_record(n % 7, n, each) for n, each in enumerate(pictures)]
    assert b"".join(ours) == rec.read_bytes()


def test_a_picture_that_no_record_holds_is_refused():
    with pytest.raises(DataError, match="record 3 would have 536870912 bytes"):
        make_record(0, 3, bytes(2**29 - 24))


def test_every_truncation_is_an_error_or_a_shorter_file(copy, small):
    data = small.read_bytes()
    starts = set(read_records(small)[1].tolist())
    for end in {*range(0, len(data), 31), *(start + more for start in starts for more in range(9))}:
        copy.write_bytes(data[:end])
        if end in starts - {0}:
            assert len(read_records(copy)[0]) < COUNT
        else:
            with pytest.raises(DataError, match="copy.rec"):
                read_records(copy)


def test_truncation_between_records_shows_in_the_index(copy, small):
    with_index(copy, small)
    copy.write_bytes(small.read_bytes()[: read_records(small)[1][5]])
    with pytest.raises(DataError, match=f"lists {COUNT} records and its .rec file holds 5"):
        load_records(copy, NAMES)


def test_flipped_bytes_never_end_in_anything_but_data_or_a_clear_error(copy, small):
    data = small.read_bytes()
    rng = np.random.default_rng(0)
    undetected = 0
    with_index(copy, small)
    for position in rng.integers(0, len(data), 300):
        damaged = bytearray(data)
        damaged[position] ^= int(rng.integers(1, 256))
        copy.write_bytes(damaged)
        try:
            assert len(load_records(copy, NAMES)) == COUNT
            undetected += 1
        except DataError as error:
            assert "copy" in str(error)
    assert undetected < 300


def test_flipped_bytes_of_the_framing_are_detected(copy, small):
    data, (_, offsets) = small.read_bytes(), read_records(small)
    with_index(copy, small)
    for offset in offsets:
        for byte in range(8):
            damaged = bytearray(data)
            damaged[offset + byte] ^= 0x41
            copy.write_bytes(damaged)
            with pytest.raises(DataError):
                load_records(copy, NAMES)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_short_is_an_error(tmp_path, progressive):
    encoded = encode(picture(3), progressive=progressive)
    for end in range(0, len(encoded), 11):
        rec = write(tmp_path, [(header(0.0), encoded[:end])])
        with pytest.raises(DataError, match="record 0"):
            load_records(rec, NAMES)


def test_a_jpeg_that_lacks_data_before_its_end_mark_is_an_error(tmp_path):
    encoded = encode(picture(3))
    scan = encoded.rindex(b"\xff\xda") + 14
    for end in range(scan, scan + (len(encoded) - scan) * 3 // 4, 5):
        rec = write(tmp_path, [(header(0.0), encoded[:end].rstrip(b"\xff") + b"\xff\xd9")])
        with pytest.raises(DataError, match="lacks data"):
            load_records(rec, NAMES)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_grey_picture_is_no_damage(tmp_path, kind):
    grey = Image.new("RGB", (32, 32), (128, 128, 128))
    assert (
        load_records(write(tmp_path, [(header(0.0), encode(grey, kind))]), NAMES).images == 128
    ).all()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ((header(4.0), encode(picture(0))), "label 4 .* outside 0 to 3"),
        ((header(-1.0), encode(picture(0))), "label -1"),
        ((header(0.5), encode(picture(0))), "label 0.5 is no class"),
        ((header(float("nan")), encode(picture(0))), "no class"),
        ((header(float("inf")), encode(picture(0))), "no class"),
        ((header(1e20), encode(picture(0))), "no class"),
        ((header([1.0, 2.0], flag=2), encode(picture(0))), "2 labels"),
        ((header(0.0), encode(picture(0, (32, 31)))), "32x31 and must be 32x32"),
        ((header(0.0), b""), "can't be decoded"),
        ((header(0.0), b"\0" * 3072), "can't be decoded"),
        ((header(0.0), encode(picture(0), "PNG")[:-30]), "can't be decoded"),
        ((header(0.0), encode(picture(0), "BMP")), "can't be decoded"),
    ],
)
def test_unfit_records_are_errors(tmp_path, record, message):
    rec = write(tmp_path, [(header(0.0), encode(picture(0))), record])
    with pytest.raises(DataError, match=message) as caught:
        load_records(rec, NAMES)
    assert str(rec) in str(caught.value)


def test_a_record_without_a_header_is_an_error(tmp_path):
    path = tmp_path / "short.rec"
    writer = mx.recordio.MXRecordIO(str(path), "w")
    writer.write(b"0123456789")
    writer.close()
    with pytest.raises(DataError, match="too short for a header"):
        load_records(path, NAMES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-1], "lists 11 records"),
        (lambda lines: [*lines, "99\t0"], "lists 13 records"),
        (lambda lines: [*lines[:-1], "0\t0"], "not unique"),
        (lambda lines: [*lines[:-1], "11\t3"], "no pair"),
        (lambda lines: [*lines[:-1], "11"], "cut"),
        (lambda lines: [*lines[:-1], "11\tx"], "pairs of integers"),
        (lambda lines: [*lines[:-1], "11\t" + "9" * 30], "pairs of integers"),
        (lambda lines: [], "lists 0 records"),
    ],
)
def test_an_index_that_does_not_fit_is_an_error(copy, small, change, message):
    lines = small.with_suffix(".idx").read_text().splitlines()
    copy.with_suffix(".idx").write_text("\n".join(change(lines)))
    with pytest.raises(DataError, match=message):
        load_records(copy, NAMES)


def test_the_order_of_an_index_does_not_matter_and_none_is_needed(copy, small):
    assert len(load_records(copy, NAMES)) == COUNT
    lines = small.with_suffix(".idx").read_text().splitlines()
    copy.with_suffix(".idx").write_text("\n".join(reversed(lines)) + "\n")
    assert len(load_records(copy, NAMES)) == COUNT


def test_missing_and_empty_files_are_errors(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        load_records(tmp_path / "none.rec", NAMES)
    (tmp_path / "empty.rec").touch()
    with pytest.raises(DataError, match="empty"):
        load_records(tmp_path / "empty.rec", NAMES)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared CIFAR-10 records are not here")
def test_real_records_read_as_mxnet_reads_them():
    dataset = load_records(SHARED / "cifar10_test.rec", tuple(map(str, range(10))))
    assert np.bincount(dataset.labels).tolist() == [1000] * 10
    reader = mx.recordio.MXIndexedRecordIO(
        str(SHARED / "cifar10_test.idx"), str(SHARED / "cifar10_test.rec"), "r"
    )
    for number in range(0, 10_000, 500):
        label, encoded = mx.recordio.unpack(reader.read_idx(number))
        assert dataset.labels[number] == label.label
        expected = mx.image.imdecode(encoded).asnumpy().astype(int)
        assert np.abs(dataset.images[number] - expected).max() <= 4
    reader.close()
