import numpy as np
import pytest
from networks import narrow, pictures
from PIL import Image

from gluon_ran.visualize import mean_masks, plot_masks
from gluon_ran.visualize.masks import _blend

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
    net = narrow()
    masks = net.masks(pictures())
    plot_masks(PICTURES[:, :, :32], masks, tmp_path / "masks.png")
    for mean, mask in zip(mean_masks(masks), masks):
        np.testing.assert_allclose(mean, mask.asnumpy().mean(axis=1), rtol=1e-5)


def test_the_colour_is_brightest_where_the_mask_is_greatest():
    mask = np.zeros((4, 4), np.float32)
    mask[1, 2] = 1
    grey = np.full((32, 32, 3), 100, np.uint8)
    shown = _blend(grey, mask, 0.0, 1.0).sum(axis=2)
    row, column = np.unravel_index(shown.argmax(), shown.shape)
    assert (row // 8, column // 8) == (1, 2)
    assert (_blend(grey, mask * 0, 0.0, 0.0) == _blend(grey, mask * 0, 0.0, 1.0)).all()


@pytest.mark.parametrize(
    "given, message",
    [
        ((PICTURES.astype("float32"), MASKS), "uint8 .* not float32"),
        ((PICTURES, []), "no attention module"),
        ((PICTURES[:1], MASKS), r"as many, not \[1, 2\]"),
        ((PICTURES, MASKS, "path", ["cat"]), "as many"),
        ((PICTURES[:0], [mask[:0] for mask in MASKS]), "as many"),
    ],
)
def test_what_does_not_fit_is_refused(given, message, tmp_path):
    images, masks, *rest = given
    with pytest.raises(ValueError, match=message):
        plot_masks(images, masks, tmp_path / "masks.png", *rest[1:])
    assert not list(tmp_path.iterdir())
