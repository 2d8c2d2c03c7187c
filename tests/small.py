"""A network and data small enough to train in half a second."""

from dataclasses import replace

import numpy as np

from gluon_ran.data import Batches, Dataset, Normalization
from gluon_ran.models import ResidualAttentionNet, Spec
from gluon_ran.training import Recipe

SPEC = Spec(
    name="small",
    source="tests",
    stem="cifar",
    stem_width=8,
    widths=(16, 32),
    strides=(1, 2),
    modules=(1, 0),
    mask_depths=(2, 0),
    units_before=(1, 1),
    units_after=(0, 0),
    t=1,
    classes=3,
)

# A module in each stage.
TWO_MODULES = replace(SPEC, name="two modules", modules=(1, 1), mask_depths=(2, 1), t=2)

# One module, built in a moment.
TINY = replace(
    SPEC, name="tiny", widths=(16,), strides=(1,), modules=(1,), mask_depths=(1,),
    units_before=(1,), units_after=(0,),
)  # fmt: skip

RECIPE = Recipe(
    name="small", source="tests", epochs=3, batch_size=8, lr=0.05, lr_mode="cosine", seed=5
)


def dataset(count=22, classes=3, size=16):
    """Pictures whose class is the channel that is brightest; 22 leaves an uneven last batch."""
    rng = np.random.default_rng(0)
    labels = (np.arange(count) % classes).astype(np.int32)
    images = rng.integers(0, 100, (count, size, size, 3), dtype=np.uint8)
    for image, label in zip(images, labels):
        image[..., label % 3] += 100
    return Dataset(images, labels, tuple(f"class {i}" for i in range(classes)))


def net(zero_init=False, **kwargs):
    return ResidualAttentionNet(replace(SPEC, zero_init=zero_init), **kwargs)


def train_batches(recipe=RECIPE, data=None):
    data = data or dataset()
    normalization = Normalization.channel(data)

    def batches(epoch):
        return Batches(
            data, recipe.batch_size, normalization, seed=recipe.seed, epoch=epoch, shuffle=True
        )

    return batches


def validation_batches(data=None):
    data = data or dataset()
    return Batches(data, 10, Normalization.channel(data))


def data_record(data=None):
    data = data or dataset()
    return {
        "dataset": "small",
        "data_dir": None,
        "class_names": list(data.class_names),
        "normalization": Normalization.channel(data).to_json(),
    }
