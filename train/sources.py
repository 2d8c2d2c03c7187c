"""Where the pictures of a run come from: a data set in memory, or RecordIO files as a stream.

Both say what must be the same for a run to go on, and give the batches of training and test.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flags import STREAM

from gluon_ran._files import sha256_of
from gluon_ran.data import (
    SPLITS,
    Batches,
    Dataset,
    Normalization,
    RecordBatches,
    RecordFile,
    ValidationTransform,
    describe_classes,
    describe_imbalance,
    hold_out,
    load_dataset,
    open_record_pair,
    with_label_noise,
)
from gluon_ran.data.catalog import NATIVE
from gluon_ran.data.dataset import labels_checksum
from gluon_ran.models import Baseline, Spec
from gluon_ran.models.network import check_input_shape
from gluon_ran.training import ALONE, Group, Recipe
from gluon_ran.training.monitor import LOG

_EVALUATED_PIXELS = 250 * 32 * 32


@dataclass(frozen=True, eq=False)
class InMemory:
    """The two splits of a data set, whole in memory.

    Attributes:
        train: what is trained on.
        test: what the network is scored on.
        held_out: whether that is a part of the training set in place of the test.
    """

    train: Dataset
    test: Dataset
    held_out: bool = False

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name a class."""
        return self.train.class_names

    def fingerprint(self) -> dict[str, Any]:
        """What tells these pictures from others."""
        return {"labels_sha256": labels_checksum(self.train, self.test)}

    def log(self) -> None:
        """Writes to the log how many pictures each class has."""
        LOG.info("training set: %s", describe_classes(self.train))
        LOG.info("%s: %s", "held out of it, in place of the test" if self.held_out else "test set",
                 describe_classes(self.test))  # fmt: skip
        warning = describe_imbalance(self.train)
        if warning:
            LOG.warning("%s", warning)

    def normalization(self, kind: str) -> Normalization:
        """The normalisation that a recipe asks for."""
        if kind == "imagenet":
            return Normalization.imagenet()
        return getattr(Normalization, kind)(self.train)

    def training_batches(
        self,
        recipe: Recipe,
        normalization: Normalization,
        devices: int,
        group: Group,
        epoch: int,
    ) -> Batches:
        """A worker's batches of a training epoch, `recipe.batch_size` pictures a device."""
        return Batches(
            with_label_noise(self.train, recipe.label_noise, recipe.seed),
            recipe.batch_size * devices,
            normalization,
            seed=recipe.seed,
            epoch=epoch,
            shuffle=True,
            augmentation=recipe.augmentation(),
            num_parts=group.count,
            part_index=group.rank,
        )

    def test_batches(self, normalization: Normalization, group: Group = ALONE) -> Batches:
        """A worker's part of the test set, in batches that suit the size of its pictures."""
        return evaluation_batches(self.test, normalization, group=group)


@dataclass(frozen=True, eq=False)
class Streamed:
    """A pair of RecordIO files whose pictures are decoded batch by batch.

    Attributes:
        train: what is trained on.
        test: what the network is scored on.
        size: height and width of the random resized crops to train on.
        test_size: height and width of the middles of pictures for the test.
        broken: 'refuse' or 'skip', as `RecordBatches` has it.
    """

    train: RecordFile
    test: RecordFile
    size: tuple[int, int]
    test_size: tuple[int, int]
    broken: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name a class."""
        return self.train.class_names

    def fingerprint(self) -> dict[str, Any]:
        """What tells these pictures from others: to read them all would take too long."""
        found = {}
        for split, records in zip(SPLITS, (self.train, self.test)):
            found[f"{split}_idx_sha256"] = sha256_of(records.path.with_suffix(".idx"))
            found[f"{split}_rec_bytes"] = records.path.stat().st_size
        return found

    def log(self) -> None:
        """Writes to the log how many pictures there are."""
        for called, records in (("training", self.train), ("test", self.test)):
            LOG.info("%s set: %s pictures of %d classes in %s", called, f"{len(records):,}",
                     len(self.class_names), records.path)  # fmt: skip

    def normalization(self, kind: str) -> Normalization:
        """The normalisation that a recipe asks for; see `check_recipe`."""
        assert kind == "imagenet", kind
        return Normalization.imagenet()

    def training_batches(
        self,
        recipe: Recipe,
        normalization: Normalization,
        devices: int,
        group: Group,
        epoch: int,
    ) -> RecordBatches:
        """A worker's full batches of a training epoch, `recipe.batch_size` pictures a device."""
        return RecordBatches(
            self.train,
            recipe.batch_size * devices,
            recipe.train_transform(self.size),
            normalization,
            seed=recipe.seed,
            epoch=epoch,
            shuffle=True,
            drop_last=True,
            num_parts=group.count,
            part_index=group.rank,
            broken=self.broken,
            ahead=1,  # fit makes more ahead
        )

    def test_batches(self, normalization: Normalization, group: Group = ALONE) -> RecordBatches:
        """A worker's part of the test set, in batches that suit the size of its pictures."""
        settings = {"size": self.test_size, "broken": self.broken, "group": group}
        return evaluation_batches(self.test, normalization, **settings)


def open_source(
    dataset: str,
    data_dir: str | None,
    settings: dict[str, Any],
    class_names: Iterable[str] | None = None,
    held_out: int | None = None,
) -> InMemory | Streamed:
    """The pictures of a data set.

    Args:
        dataset: one of `DATASETS`, or `STREAM`.
        data_dir: where they lie.
        settings: of `flags.picture_settings`.
        class_names: those of a stream where no file names them; None: not known.
        held_out: of a data set in memory: how many of the training pictures take the place of the
            test; None: none.

    Raises:
        DataError: they are missing or damaged.
    """
    if dataset != STREAM and held_out is not None:
        (train,) = load_dataset(dataset, data_dir, **settings, splits=("train",))
        return InMemory(*hold_out(train, held_out, in_place=True), held_out=True)
    if dataset != STREAM:
        return InMemory(*load_dataset(dataset, data_dir, **settings))
    return Streamed(*open_record_pair(data_dir, settings["broken"], class_names), **settings)


def check_recipe(recipe: Recipe, dataset: str) -> None:
    """Refuses a recipe that the pictures can't be varied or normalised by, before any is read.

    Raises:
        ValueError, DataError: says which value, and what else to give.
    """
    if dataset != STREAM:
        recipe.augmentation()
        return
    if recipe.flip == "alternating":
        raise ValueError("--flip alternating is for data sets in memory: give random or none")
    if recipe.normalization not in ("imagenet", "weights"):
        raise ValueError(
            f"--normalization {recipe.normalization} needs all pictures in memory: leave it out "
            "for ImageNet's usual one"
        )
    recipe.train_transform((1, 1))


def check_size(
    spec: Spec | Baseline, settings: dict[str, Any], recipe: Recipe | None = None
) -> None:
    """Refuses sizes that the network or the pictures do not have, before any picture is read.

    Raises:
        ValueError: says which sizes it takes.
    """
    height, width = settings["size"] or NATIVE
    check_input_shape(spec, (1, 3, height, width))
    test = tuple(settings.get("test_size", (height, width)))
    check_input_shape(spec, (1, 3, *test))
    for edge, _ in recipe.progressive_sizes if recipe is not None else ():
        check_input_shape(spec, (1, 3, edge, edge))
        for what, (rows, columns) in (("these", (height, width)), ("the test's", test)):
            if rows != columns or edge > rows:
                raise ValueError(
                    f"--progressive-sizes shrinks square pictures, and {what} of {rows}x{columns} "
                    f"have no smaller size {edge}: give other sizes, or another recipe"
                )


def check_mean_picture(
    normalization: Normalization, settings: dict[str, Any], instead: str | None = None
) -> None:
    """Refuses pictures of another size than the mean picture's, before any is read.

    Raises:
        ValueError: names the size; and `instead`, what else can be given, if anything.
    """
    (height, width), mean = settings["size"] or NATIVE, normalization.mean
    if mean.ndim == 3 and mean.shape[:2] != (height, width):
        size = f"{mean.shape[0]}x{mean.shape[1]}"
        raise ValueError(
            f"the weights were trained with a mean picture of {size}, and these pictures are "
            f"{height}x{width}: give --size {size}" + (f" or {instead}" if instead else "")
        )


def evaluation_batches(
    pictures: Dataset | RecordFile,
    normalization: Normalization,
    size: tuple[int, int] | None = None,
    broken: str = "refuse",
    batch_size: int | None = None,
    group: Group = ALONE,
) -> Batches | RecordBatches:
    """Pictures to score a network on, in their order.

    Args:
        pictures: a data set in memory, or a file to stream.
        normalization: of the network.
        size: height and width that streamed pictures are brought to.
        broken: what happens to broken ones of a stream.
        batch_size: pictures a batch; None: as `evaluation_batch` says.
        group: workers that share the pictures out.
    """
    part = {"num_parts": group.count, "part_index": group.rank}
    if isinstance(pictures, RecordFile):
        count = evaluation_batch(size) if batch_size is None else batch_size
        transform = ValidationTransform(size)
        how = {"broken": broken, "drop_broken": True}
        return RecordBatches(pictures, count, transform, normalization, **how, **part)
    shape = pictures.images.shape[1:3]
    count = evaluation_batch(shape) if batch_size is None else batch_size
    return Batches(pictures, count, normalization, **part)


def evaluation_batch(size: tuple[int, int]) -> int:
    """Pictures a batch of evaluation: 250 of 32x32, fewer of larger ones, at least 16."""
    return min(max(_EVALUATED_PIXELS // (size[0] * size[1]), 16), 250)
