import numpy as np
import pytest
from figures import assert_apart, texts
from networks import narrow, pictures
from PIL import Image

from gluon_ran.visualize import masks, masks_image, mean_masks, plot_masks
from gluon_ran.visualize._panels import blend, span_text

PICTURES = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
MASKS = [np.random.default_rng(n).random((2, 5, 32 >> n, 48 >> n), np.float32) for n in range(3)]


def ink(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def test_a_figure_has_a_row_a_picture_and_a_column_a_module(tmp_path):
    both, one = tmp_path / "both.png", tmp_path / "one.png"
    plot_masks(PICTURES, MASKS, both, ["cat", "dog $x"], title="a title")
    plot_masks(PICTURES[:1], [mask[:1] for mask in MASKS[:1]], one)
    assert ink(both).shape[0] > 1.5 * ink(one).shape[0]
    assert ink(both).shape[1] > 1.5 * ink(one).shape[1]


def test_the_same_masks_give_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        plot_masks(PICTURES, MASKS, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_masks_of_a_network_can_be_drawn(tmp_path):
    found = narrow().masks(pictures())
    plot_masks(PICTURES[:, :, :32], found, tmp_path / "masks.png")
    for mean, mask in zip(mean_masks(found), found):
        np.testing.assert_allclose(mean, mask.asnumpy().mean(axis=1), rtol=1e-5)


def drawn(*args, names=(), title=None, channels=()):
    figure = masks._draw(*args, names, title, channels)
    figure.draw_without_rendering()
    return figure


def test_a_panel_has_the_mask_that_is_named_above_it():
    figure = drawn(PICTURES, MASKS[:2], channels=(3,))
    heads = [ax.texts[0].get_text() for ax in figure.axes[:-1] if ax.texts]
    expected = [(f"module {n}\n{what}", maps) for n, mask in enumerate(MASKS[:2], 1)
                for what, maps in (("mean", mask.mean(1)), ("channel 3", mask[:, 3]))]  # fmt: skip
    assert heads == ["picture"] + [
        f"{name}\n{span_text(maps.min(), maps.max())}" for name, maps in expected
    ]
    images = [ax.images[0].get_array() for ax in figure.axes[:-1]]
    for number, picture in enumerate(PICTURES):
        assert (images[number] == picture).all()
        for column, (_, maps) in enumerate(expected, 1):
            shown = blend(picture, maps[number], maps.min(), maps.max())
            assert (images[2 * column + number] == shown).all()


@pytest.mark.parametrize("modules, channels", [(3, 0), (18, 0), (3, 7), (5, 2)])
def test_panels_and_what_is_written_lie_beside_each_other(modules, channels):
    masks = [MASKS[0][:1]] * modules
    figure = drawn(PICTURES[:1], masks, names=["a"], title="title", channels=[1] * channels)
    assert_apart(figure)
    bands = [text.get_text() for text in texts(figure)].count("picture")
    assert len(figure.axes) == bands + modules * (1 + channels) + 1
    beside = len({round(ax.get_position().x0, 6) for ax in figure.axes})
    assert beside <= 1 + max(6, 1 + channels)


def test_the_figure_can_be_an_array(tmp_path):
    plot_masks(PICTURES, MASKS, tmp_path / "masks.png", channels=(1,))
    image, large = masks_image(PICTURES, MASKS, channels=(1,)), ink(tmp_path / "masks.png")
    assert image.dtype == np.uint8 and image.shape[2] == 3
    assert np.subtract(large.shape, image.shape)[:2].min() > 100
    assert np.abs(image.mean((0, 1)) - large.mean((0, 1))).max() < 4


@pytest.mark.parametrize(
    "given, message",
    [
        ((PICTURES.astype("float32"), MASKS), "uint8 .* not float32"),
        ((PICTURES, []), "no attention module"),
        ((PICTURES[:1], MASKS), r"as many, not \[1, 2\]"),
        ((PICTURES, MASKS, "path", ["cat"]), "as many"),
        ((PICTURES[:0], [mask[:0] for mask in MASKS]), "as many"),
        ((PICTURES, MASKS, "path", (), None, (4, 5, -1)), "channels 5, -1: they are 5 channels"),
    ],
)
def test_what_does_not_fit_is_refused(given, message, tmp_path):
    images, arrays, *rest = given
    with pytest.raises(ValueError, match=message):
        plot_masks(images, arrays, tmp_path / "masks.png", *rest[1:])
    assert not list(tmp_path.iterdir())
