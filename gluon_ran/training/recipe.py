"""How to train: the frozen Recipe, the table of recipes, and the learning rate of each step."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from gluon_ran.data import Augmentation, TrainTransform

OPTIMIZERS = ("nag", "sgd", "muon")
LR_MODES = ("step", "cosine")
DTYPES = ("float32", "bfloat16", "float16")
NORMALIZATIONS = ("channel", "per_pixel", "imagenet", "weights")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        name: the recipe's name.
        source: where it comes from.
        epochs: passes over the training set.
        batch_size: pictures a device and step.
        optimizer: "nag" (Nesterov momentum), "sgd" or "muon" (see `training.Muon`: its rates and
            decays mean something else).
        lr: learning rate at its highest.
        momentum: of the optimizer.
        wd: weight decay.
        no_wd: no weight decay on biases and on scales and shifts of the normalisation.
        lr_mode: "step" (times `lr_decay` at each of `lr_steps`) or "cosine" (to zero).
        lr_steps: epochs, from 0, at which the step schedule decays.
        lr_decay: factor of the step schedule.
        warmup_epochs: epochs over which the learning rate rises linearly to `lr`.
        mixup: mix each picture and its target with another one's (arXiv 1710.09412), but for the
            last tenth of the epochs.
        alpha: mixup's share is drawn from Beta(alpha, alpha).
        epsilon: label smoothing, the share of the target spread evenly over all classes.
        dtype: "float32", "bfloat16" (convolutions on CPUs) or "float16" (on GPUs, loss scaled).
        progressive_sizes: (edge, epochs) pairs: so many epochs on pictures shrunk to so many pixels
            of height and width, one pair after the other, then the rest at the pictures' own size
            (progressive resizing: small pictures are cheap, and enough to begin with).
        crop_padding: pixels that a picture is padded by before a random crop of its own size.
        crop_mode: "reflect" or "zero", what the padding holds.
        flip: "none", "random" or "alternating" (each picture every other epoch).
        cutout: edge in pixels of a square that is blanked; 0 for none.
        rotation: greatest angle in degrees; 0 for none.
        least_area: least share of a picture's area that a random resized crop has.
        aspect: greatest ratio of width to height, or of height to width, that it has.
        jitter: brightness, contrast and saturation change by up to this share.
        lighting: standard deviation of PCA lighting.
        label_noise: share of the training labels that are wrong, see `data.noisy_labels`; 0: none.
        normalization: "channel" or "per_pixel" mean of the training set, "imagenet": the usual one
            of ImageNet, or "weights": what the weights that training starts from were trained with.
        seed: all randomness comes from it, the epoch and the step.

    Data sets in memory are varied by `crop_padding` to `rotation`, streamed ones by `flip` and by
    `least_area` to `lighting`: by `augmentation` and `train_transform`, which the training scripts
    call. `fit` takes batches as they come. Label noise is for data sets in memory.
    """

    name: str
    source: str
    epochs: int = 200
    batch_size: int = 64
    optimizer: str = "nag"
    lr: float = 0.1
    momentum: float = 0.9
    wd: float = 1e-4
    no_wd: bool = False
    lr_mode: str = "step"
    lr_steps: tuple[int, ...] = (80, 120)
    lr_decay: float = 0.1
    warmup_epochs: int = 0
    mixup: bool = False
    alpha: float = 1.0
    epsilon: float = 0.0
    dtype: str = "float32"
    progressive_sizes: tuple[tuple[int, int], ...] = ()
    crop_padding: int = 4
    crop_mode: str = "zero"
    flip: str = "random"
    cutout: int = 0
    rotation: float = 0.0
    least_area: float = 0.08
    aspect: float = 4 / 3
    jitter: float = 0.4
    lighting: float = 0.1
    label_noise: float = 0.0
    normalization: str = "channel"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "lr_steps", tuple(self.lr_steps))
        object.__setattr__(self, "progressive_sizes", tuple(map(tuple, self.progressive_sizes)))
        for name, choices in (
            ("optimizer", OPTIMIZERS),
            ("lr_mode", LR_MODES),
            ("dtype", DTYPES),
            ("normalization", NORMALIZATIONS),
        ):
            if getattr(self, name) not in choices:
                given = getattr(self, name)
                raise ValueError(f"Recipe.{name} is {given!r}; choose one of {', '.join(choices)}")
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name, least, most in (
            ("epochs", 1, math.inf),
            ("batch_size", 1, math.inf),
            ("lr", 0, math.inf),
            ("momentum", 0, 1),
            ("wd", 0, math.inf),
            ("lr_decay", 0, 1),
            ("warmup_epochs", 0, self.epochs),
            ("alpha", 1e-6, math.inf),
            ("epsilon", 0, 1),
            ("least_area", 1e-6, 1),
            ("aspect", 1, math.inf),
            ("jitter", 0, 1),
            ("lighting", 0, 1),
            ("label_noise", 0, 1),
            ("seed", 0, 2**31 - 1),
        ):
            value = getattr(self, name)
            if not (least <= value <= most and math.isfinite(value)):
                bounds = f"at least {least}" if most == math.inf else f"{least} to {most}"
                raise ValueError(f"Recipe.{name} is {value}; give a number of {bounds}")
        if list(self.lr_steps) != sorted(set(self.lr_steps)) or min(self.lr_steps, default=0) < 0:
            raise ValueError(f"Recipe.lr_steps {self.lr_steps}: give rising epochs, as in 80,120")
        self._check_sizes()

    def _check_sizes(self) -> None:
        sizes = self.progressive_sizes
        edges = [pair[0] for pair in sizes]
        if any(len(pair) != 2 or min(pair) < 1 for pair in sizes) or edges != sorted(set(edges)):
            raise ValueError(
                f"Recipe.progressive_sizes {sizes}: give rising edges in pixels and their epochs, "
                "as in 16:3,24:4"
            )
        if sum(pair[1] for pair in sizes) >= self.epochs > 0 and sizes:
            raise ValueError(
                f"Recipe.progressive_sizes {sizes} leave none of {self.epochs} epochs for the "
                "pictures' own size: give fewer there, or more in all"
            )

    def augmentation(self) -> Augmentation:
        """How the training pictures of a data set in memory are varied, for `Batches`.

        Raises:
            DataError: a value that the augmentation does not take.
        """
        return Augmentation(
            crop_padding=self.crop_padding,
            crop_mode=self.crop_mode,
            flip=self.flip,
            cutout=self.cutout,
            rotation=self.rotation,
        )

    def train_transform(self, size: int | tuple[int, int]) -> TrainTransform:
        """How the training pictures of a stream are varied, for `RecordBatches`.

        Args:
            size: what they are brought to: a side or (height, width) in pixels.

        Raises:
            DataError: a value that the transform does not take.
        """
        return TrainTransform(
            size,
            area=(self.least_area, 1.0),
            aspect=(1 / self.aspect, self.aspect),
            flip=self.flip,
            brightness=self.jitter,
            contrast=self.jitter,
            saturation=self.jitter,
            lighting=self.lighting,
        )

    def to_json(self) -> str:
        """The Recipe as JSON text, a field a key."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The Recipe that `to_json` wrote.

        Raises:
            ValueError: the text is not JSON of a Recipe's fields.
        """
        values = json.loads(text)
        if not isinstance(values, dict) or not {"name", "source"} <= set(values):
            raise ValueError(f"Recipe is a JSON object with a name and a source, not {values!r}")
        choices = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(choices))
        if unknown:
            raise ValueError(f"Recipe has no field {', '.join(unknown)}; it has {choices}")
        return cls(**values)


_BASE = Recipe(
    name="gluon",
    source="the earlier Gluon port's defaults (haoxintong/ResidualAttentionNetwork-Gluon)",
)

_SHORT = replace(
    _BASE,
    name="short",
    source="ours, for the best of a few epochs; rate and decay narrowed down on 5,000 of"
    " the training pictures, progressive sizes after fast.ai's DAWNBench entries",
    epochs=12,
    lr=0.2,
    wd=3e-4,
    no_wd=True,
    lr_mode="cosine",
    warmup_epochs=1,
    progressive_sizes=((16, 3), (24, 4)),
    crop_padding=2,
    crop_mode="reflect",
    flip="alternating",
)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        _BASE,
        replace(
            _BASE,
            name="paper",
            source="arXiv 1704.06904 section 4.1, as remembered, not checked against a copy: lr 0.1"
            " divided by 10 at 64k and 96k of 160k iterations of 64 pictures",
            epochs=205,
            lr_steps=(82, 123),
        ),
        replace(
            _BASE,
            name="tricks",
            source="the earlier ports' best: warm-up, cosine, mixup, smoothing, no decay on biases",
            lr_mode="cosine",
            warmup_epochs=5,
            mixup=True,
            alpha=0.2,
            epsilon=0.1,
            no_wd=True,
            wd=5e-4,
            crop_mode="reflect",
        ),
        replace(
            _BASE,
            name="port-tricks",
            source="the earlier Gluon port's train.py (haoxintong)",
            lr_mode="cosine",
            warmup_epochs=5,
            normalization="imagenet",
        ),
        _SHORT,
        replace(
            _SHORT,
            name="muon",
            source="ours, 'short' by Muon, in large batches; batch, rate and momentum narrowed down"
            " on 5,000 of the training pictures",
            batch_size=512,
            optimizer="muon",
            lr=0.09,
            momentum=0.8,
            wd=0.02,
            epsilon=0.1,
            crop_padding=4,
        ),
        replace(
            _BASE,
            name="digits",
            source="ours, for the embedded digits, which neither flip nor move far",
            epochs=10,
            batch_size=32,
            lr=0.1,
            wd=5e-4,
            lr_mode="cosine",
            warmup_epochs=1,
            crop_padding=2,
            flip="none",
        ),
        replace(
            _BASE,
            name="imagenet-paper",
            source="arXiv 1704.06904 section 4.2, as remembered, not checked against a copy: SGD,"
            " lr 0.1 divided by 10 at 200k, 400k and 500k of 530k iterations. Their batch is not"
            " remembered: the epochs are for 256 pictures in all, 5,004 steps an epoch",
            epochs=106,
            batch_size=256,
            optimizer="sgd",
            lr_steps=(40, 80, 100),
            normalization="imagenet",
        ),
        replace(
            _BASE,
            name="imagenet-tricks",
            source='He et al., "Bag of Tricks", arXiv 1812.01187, as remembered, not checked'
            " against a copy: warm-up, cosine, smoothing, mixup, no decay on biases; --zero-init"
            " goes with it. lr 0.1 is for 256 pictures in all: times N for N times as many",
            epochs=200,
            batch_size=256,
            lr_mode="cosine",
            warmup_epochs=5,
            mixup=True,
            alpha=0.2,
            epsilon=0.1,
            no_wd=True,
            normalization="imagenet",
        ),
    )
}


def get_recipe(name: str, **changes: Any) -> Recipe:
    """A recipe of the table, with fields changed.

    Raises:
        ValueError: an unknown name or field, or a value that a field does not take.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe is called {name!r}; there are: {', '.join(RECIPES)}")
    unknown = sorted(set(changes) - {field.name for field in fields(Recipe)})
    if unknown:
        choices = ", ".join(field.name for field in fields(Recipe))
        raise ValueError(f"Recipe has no field {', '.join(unknown)}; its fields: {choices}")
    return replace(RECIPES[name], **changes)


def size_at(epoch: int, recipe: Recipe) -> int | None:
    """Edge in pixels that the pictures of an epoch, from 0, shrink to; None for their own size."""
    for edge, epochs in recipe.progressive_sizes:
        if epoch < epochs:
            return edge
        epoch -= epochs
    return None


def lr_at(step: int, steps_per_epoch: int, recipe: Recipe) -> float:
    """The learning rate of a step.

    It rises linearly over the warm-up, whose last step has the full rate. Then it follows the
    schedule; the cosine starts there and would reach zero one step behind the last one.

    Args:
        step: steps done before this one, from 0.
        steps_per_epoch: steps in each epoch.
        recipe: says the rest.
    """
    warmup = recipe.warmup_epochs * steps_per_epoch
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    if recipe.lr_mode == "step":
        decays = sum(step >= epoch * steps_per_epoch for epoch in recipe.lr_steps)
        return recipe.lr * recipe.lr_decay**decays
    total = recipe.epochs * steps_per_epoch
    if step >= total:
        return 0.0
    return recipe.lr * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2
