import numpy as np
import pytest
from figures import assert_apart, texts
from networks import narrow, pictures
from PIL import Image

from gluon_ran.visualize import attention, attention_arrays, plot_attention, save_attention_arrays
from gluon_ran.visualize._panels import blend, heat, span_text

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (32, 48, 3), dtype=np.uint8)


def random_maps(modules=2, count=1, scale=1.0, width=5):
    shapes = [(3, count, width + n, 32 >> n % 3, 48 >> n % 3) for n in range(modules)]
    return [tuple(scale * RNG.standard_normal(shape, np.float32)) for shape in shapes]


def drawn(maps, channels=(), title=None):
    figure = attention._draw(PICTURE, maps, channels, title)
    figure.draw_without_rendering()
    return figure


def test_a_row_has_what_is_before_the_mask_the_mask_and_what_is_behind_it():
    maps = random_maps()
    panels = drawn(maps, channels=(4, 0)).axes[3:]
    names = ["before the mask", "mask", "after the mask", "mask, channel 4", "mask, channel 0"]
    assert [ax.texts[1].get_text() for ax in panels[:5]] == names
    for number, (before, mask, after) in enumerate(maps):
        row = panels[5 * number : 5 * number + 5]
        values = [each[0].mean(axis=0) for each in (before, mask, after)] + [mask[0, 4], mask[0, 0]]
        for ax, shown, name in zip(row, values, names):
            over = name.startswith("mask")
            both = shown if over else np.stack([values[0], values[2]])
            low, high = both.min(), both.max()
            assert ax.texts[0].get_text() == span_text(low, high)
            expected = (blend if over else heat)(PICTURE, shown, low, high)
            assert (ax.images[0].get_array() == expected).all()
        shape = "x".join(map(str, mask.shape[1:]))
        assert row[0].get_ylabel() == f"module {number + 1}\n{shape}"


@pytest.mark.parametrize("modules, channels, scale", [(1, 0, 1), (18, 0, 1e9), (7, 4, 1)])
def test_the_figures_of_deep_networks_are_legible(modules, channels, scale):
    figure = drawn(random_maps(modules, scale=scale), [1] * channels, "title $x")
    assert len(figure.axes) == 3 + modules * (3 + channels)
    assert_apart(figure)
    assert {text.get_text() for text in texts(figure)} >= {"title $x", "least", "greatest"}
    width, height = figure.get_size_inches()
    assert width < 20 and height < 15


def test_the_maps_of_a_network_can_be_drawn_and_written(tmp_path):
    maps = narrow(modules=(1, 0, 1)).attention(pictures(16, 24, count=1))
    for name in ("a.png", "b.png"):
        plot_attention(PICTURE, maps, tmp_path / name, channels=[7])
    content = (tmp_path / "a.png").read_bytes()
    assert content == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"
    save_attention_arrays(maps, tmp_path / "maps.npz", [7, 0])
    with np.load(tmp_path / "maps.npz") as arrays:
        assert sorted(arrays) == sorted(attention_arrays(maps, [7, 0]))
        for number, module in enumerate(maps, 1):
            for name, values in module._asdict().items():
                one = f"module{number}_{name}"
                assert np.allclose(arrays[one], values.asnumpy().mean(axis=1), 0, 1e-5)
                assert np.array_equal(arrays[f"{one}_channels"], values.asnumpy()[:, [7, 0]])
        assert arrays["channels"].tolist() == [7, 0]
    assert len(list(tmp_path.iterdir())) == 3


def test_arrays_of_several_pictures_are_means_alone_without_channels():
    (maps,) = random_maps(modules=1, count=3)
    arrays = attention_arrays([maps])
    assert {name: array.shape for name, array in arrays.items()} == {
        f"module1_{name}": (3, 32, 48) for name in ("before", "mask", "after")
    }


def test_arrays_that_cannot_be_written_leave_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        save_attention_arrays(random_maps(), tmp_path / "nowhere" / "maps.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "picture, maps, channels, message",
    [
        (PICTURE[None], random_maps(), (), r"uint8 \(H, W, 3\), not uint8 \(1, 32, 48, 3\)"),
        (PICTURE / 255, random_maps(), (), "not float64"),
        (PICTURE, random_maps(count=2), (), "of 2 pictures: give those of one"),
        (PICTURE, [], (), "no attention module"),
        (PICTURE, random_maps()[0], (), "give before, mask and after of each module"),
        (PICTURE, random_maps(3), (4, 5, 6), "5, 6: they are 5, 6, 7 channels .* from 0 to 4"),
        (PICTURE, random_maps(), (-1,), "-1: they are 5, 6 channels"),
    ],
)
def test_what_does_not_fit_is_refused(picture, maps, channels, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        plot_attention(picture, maps, tmp_path / "maps.png", channels)
    assert not list(tmp_path.iterdir())
