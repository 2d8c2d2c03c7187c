"""Decoding of every kind of picture, whole and damaged, and the ways to a network's size."""

import io
import struct

import numpy as np
import pytest
from pictures import deep_png
from PIL import Image, ImageFile

from gluon_ran.data import DataError
from gluon_ran.data.jpeg import JPEG_END, is_complete_jpeg, jpeg_end
from gluon_ran.data.pictures import checked_size, decode, fit_picture, to_rgb

GREY = np.linspace(0, 255, 24 * 40).reshape(24, 40).astype(np.uint8)


def smooth(height=24, width=40):
    low = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(low).resize((width, height), Image.BICUBIC)


def encode(image, kind, **settings):
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    return stream.getvalue()


def pixels(encoded, **settings):
    return np.asarray(decode(encoded, "here", **settings)).astype(int)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM"])
def test_lossless_kinds_come_back_to_the_bit(kind):
    assert np.array_equal(pixels(encode(smooth(), kind)), np.asarray(smooth()))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_kinds_come_back_nearly(kind):
    assert np.abs(pixels(encode(smooth(), kind, quality=95)) - np.asarray(smooth())).mean() < 3


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "PPM"])
def test_grey_becomes_three_equal_channels(kind):
    got = pixels(encode(Image.fromarray(GREY), kind))
    assert (got == got[..., :1]).all()
    assert np.abs(got[..., 0] - GREY).max() <= (8 if kind == "JPEG" else 0)


def test_16_bit_grey_is_scaled_not_cut():
    deep = np.linspace(0, 65535, 24 * 40).reshape(24, 40)
    png = encode(Image.fromarray(deep.astype(np.uint16)), "PNG")
    # By hand: Pillow 10 reads this PGM and can't write it.
    pgm = b"P5 40 24 65535\n" + deep.astype(">u2").tobytes()
    for encoded in (png, pgm):
        assert np.abs(pixels(encoded)[..., 0] - deep / 257).max() <= 0.51


def test_transparent_16_bit_grey_is_white():
    deep = np.arange(24 * 40).reshape(24, 40)
    png = deep_png(deep, transparent=7)
    assert (pixels(png) == np.where(deep == 7, 255, (deep + 128) // 257)[..., None]).all()


def test_palettes_bilevel_and_cmyk_become_rgb():
    palette = smooth().quantize(16)
    assert np.array_equal(pixels(encode(palette, "PNG")), np.asarray(palette.convert("RGB")))
    black_and_white = Image.fromarray(GREY > 100)
    assert np.array_equal(
        pixels(encode(black_and_white, "PNG"))[..., 0], np.where(GREY > 100, 255, 0)
    )
    cmyk = encode(smooth().convert("CMYK"), "JPEG", quality=95)
    assert np.abs(pixels(cmyk) - np.asarray(smooth())).mean() < 4


@pytest.mark.parametrize("kind", ["RGBA", "LA"])
def test_what_is_transparent_shows_white_behind_it(kind):
    alpha = np.linspace(255, 0, 24 * 40).reshape(24, 40).round()
    picture = smooth().convert("L" if kind == "LA" else "RGB")
    picture.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    share = alpha[..., None] / 255
    colours = np.asarray(picture.convert("RGBA"))[..., :3]
    expected = share * colours + (1 - share) * 255
    assert np.abs(pixels(encode(picture, "PNG")) - expected).max() <= 1


def test_transparent_colours_without_an_alpha_channel_are_white_too():
    palette, grey = smooth().quantize(16), Image.fromarray(GREY)
    clear = encode(palette, "PNG", transparency=bytes([0] * 8 + [255] * 8))
    assert (pixels(clear)[np.asarray(palette) < 8] == 255).all()
    assert (pixels(encode(grey, "PNG", transparency=7))[GREY == 7] == 255).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, -1), (8, 1)])
def test_pictures_stand_upright(kind, orientation, turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = pixels(encode(smooth(), kind))
    turned = pixels(encode(smooth(), kind, exif=exif))
    assert np.array_equal(turned, np.rot90(plain, turns))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_is_no_damage_of_the_picture(kind):
    encoded = encode(smooth(), kind, exif=b"Exif\0\0" + bytes(20))
    assert np.array_equal(pixels(encoded), pixels(encode(smooth(), kind)))
    # Upside down, and of a resolution that is text where a fraction belongs.
    tiff = b"II*\0\x08\0\0\0\x02\0" + struct.pack("<HHII", 0x0112, 3, 1, 3)
    tiff += struct.pack("<HHI4s", 0x011A, 2, 3, b"72\0\0") + bytes(4)
    turned = encode(smooth(), kind, exif=b"Exif\0\0" + tiff)
    assert np.array_equal(pixels(turned), np.rot90(pixels(encode(smooth(), kind)), 2))
    with_density = encode(smooth(), "JPEG", exif=b"Exif\0\0" + bytes(20), dpi=(72, 72))
    assert np.array_equal(pixels(with_density), pixels(encode(smooth(), "JPEG")))


def test_several_pictures_in_a_file_and_a_trailer_are_no_damage():
    pair = encode(smooth(), "MPO", save_all=True, append_images=[smooth(8, 8)])
    assert pixels(pair).shape == (24, 40, 3)
    trailed = encode(smooth(), "JPEG") + b"a phone's own data"
    assert np.array_equal(pixels(trailed), pixels(encode(smooth(), "JPEG")))
    assert not is_complete_jpeg(trailed) and is_complete_jpeg(encode(smooth(), "JPEG"))


def test_fill_bytes_before_a_marker_are_part_of_a_jpeg():
    encoded = encode(smooth(), "JPEG")
    filled = encoded[:2] + b"\xff" * 3 + encoded[2:]
    assert jpeg_end(filled) == len(filled)
    assert np.array_equal(pixels(filled), pixels(encoded))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "PPM"])
@pytest.mark.parametrize("at_least", [0, 8])
@pytest.mark.parametrize("lenient", [False, True])
def test_a_picture_cut_short_is_never_half_a_picture(kind, at_least, lenient, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)  # as GluonCV does
    encoded = encode(smooth(64, 96), kind)
    whole = pixels(encoded, at_least=at_least)
    refused = 0
    for end in range(0, len(encoded), max(len(encoded) // 60, 1)):
        try:
            assert np.array_equal(pixels(encoded[:end], at_least=at_least), whole)
        except DataError as error:
            assert str(error).startswith("here: its ") and "0x" not in str(error)
            refused += 1
    assert refused > 55
    assert ImageFile.LOAD_TRUNCATED_IMAGES is lenient


@pytest.mark.parametrize("at_least", [0, 8])
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_a_jpeg_that_lacks_data_before_its_end_mark_is_an_error(mode, at_least):
    encoded = encode(smooth(64, 96).convert(mode), "JPEG")
    # Behind the header, of two bytes a channel.
    scan = encoded.rindex(b"\xff\xda") + 8 + 2 * len(mode)
    for end in range(scan, scan + (len(encoded) - scan) * 3 // 4, 9):
        with pytest.raises(DataError, match="lacks data"):
            decode(encoded[:end].rstrip(b"\xff") + JPEG_END, "here", at_least=at_least)


def test_grey_pictures_are_no_damage():
    grey = Image.new("RGB", (40, 24), (128, 128, 128))
    for kind in ("JPEG", "PNG"):
        assert (pixels(encode(grey, kind)) == 128).all()
    assert (pixels(encode(grey.convert("L"), "JPEG")) == 128).all()


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (b"", "it is empty"),
        (b"once upon a time", "it is no JPEG, PNG, BMP, WEBP or PPM"),
        (encode(smooth(), "GIF"), "it is no JPEG"),
        (encode(smooth(), "TIFF"), "it is no JPEG"),
        (encode(smooth(), "PNG").replace(b"IDAT", b"IDAX"), "can't be decoded"),
    ],
)
def test_what_is_no_picture_is_named(encoded, message):
    with pytest.raises(DataError, match=f"^here: .*{message}"):
        decode(encoded, "here")


def test_floating_point_pixels_are_refused():
    with pytest.raises(ValueError, match="no known range"):
        to_rgb(Image.new("F", (2, 2)))


def test_a_large_jpeg_is_reduced_while_it_is_decoded():
    encoded = encode(smooth(240, 400), "JPEG", quality=95)
    reduced = decode(encoded, "here", at_least=40)
    assert min(reduced.size) >= 40 and reduced.size[0] < 400
    exact = fit_picture(decode(encoded, "here"), (20, 20), "crop").astype(int)
    assert np.abs(fit_picture(reduced, (20, 20), "crop") - exact).max() <= 6


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_a_picture_of_the_size_stays_as_it_is(fit):
    assert np.array_equal(fit_picture(smooth(), (24, 40), fit), np.asarray(smooth()))


@pytest.mark.parametrize("size", [(8, 8), (6, 12), (100, 60), (1, 1), (7, 5)])
@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_every_size_is_reached(fit, size):
    for source in ((24, 40), (40, 24), (1, 1), (3, 200), (31, 33)):
        got = fit_picture(smooth(*source), size, fit)
        assert got.shape == (*size, 3) and got.dtype == np.uint8


def test_a_gradient_keeps_its_mean_when_it_shrinks():
    rows = np.repeat(np.linspace(20, 220, 80)[:, None], 120, axis=1)
    ramp = Image.fromarray(np.repeat(rows[..., None], 3, axis=2).round().astype(np.uint8))
    for fit in ("crop", "squash"):
        got = fit_picture(ramp, (10, 10), fit)
        assert abs(got.mean() - rows.mean()) < 0.6
        assert (
            np.abs(got[1:-1].mean(axis=(1, 2)) - rows.reshape(10, 8, 120).mean((1, 2))[1:-1]).max()
            < 1
        )


def test_shrinking_averages_a_checkerboard():
    board = np.indices((64, 64)).sum(0) % 2 * 255
    picture = Image.fromarray(board.astype(np.uint8)).convert("RGB")
    assert np.abs(fit_picture(picture, (8, 8), "crop").astype(int) - 127.5).max() < 8


def test_crop_takes_the_middle_pad_keeps_all_squash_stretches():
    stripes = np.zeros((20, 60, 3), np.uint8)
    for third in range(3):
        stripes[:, 20 * third : 20 * third + 20, third] = 255
    picture = Image.fromarray(stripes)
    crop = fit_picture(picture, (20, 20), "crop")
    assert np.array_equal(crop, stripes[:, 20:40])
    pad = fit_picture(picture, (60, 60), "pad")
    assert np.array_equal(pad[20:40], stripes)
    assert (pad[:20] == 128).all() and (pad[40:] == 128).all()
    squash = fit_picture(picture, (20, 20), "squash")
    assert [int(squash[10, column].argmax()) for column in (2, 10, 18)] == [0, 1, 2]


def test_an_even_crop_cuts_both_sides_alike():
    ramp = np.repeat(np.arange(60, dtype=np.uint8)[None, :, None] * 4, 20, axis=0)
    picture = Image.fromarray(np.repeat(ramp, 3, axis=2))
    assert np.array_equal(fit_picture(picture, (20, 20), "crop")[0, :, 0], ramp[0, 20:40, 0])
    upright = picture.transpose(Image.ROTATE_270)
    assert np.array_equal(fit_picture(upright, (20, 20), "crop")[:, 0, 0], ramp[0, 20:40, 0])


def test_sizes_are_one_side_or_two():
    assert checked_size(8) == (8, 8) and checked_size((8, 12)) == (8, 12)
    assert checked_size([8, 12]) == (8, 12)
    assert checked_size(np.int64(8)) == (8, 8) and checked_size((np.int32(8), 12)) == (8, 12)
    for size in (0, -1, (8,), (8, 0), (8, 8, 3), (8.0, 8), 8.0, None, "48"):
        with pytest.raises(DataError, match="size"):
            checked_size(size)
