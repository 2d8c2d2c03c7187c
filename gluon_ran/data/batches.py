"""One epoch of batches, and a thread that makes them beside the training step."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator

import numpy as np

from gluon_ran.data.augment import Augmentation, augment
from gluon_ran.data.dataset import DataError, Dataset
from gluon_ran.data.normalization import Normalization

# The streams of random numbers, each its own however the seed, epoch and step fall.
_ORDER, _AUGMENT, _FLIP = range(1, 4)


class Batches:
    """The batches of one epoch; each is a function of (seed, epoch, step) and nothing else.

    Iterating gives them in order; `batches[step]` gives any one of them, for going on in the
    middle of an epoch. A batch is its pictures, float32 (B, 3, H, W), and labels, int32 (B,).

    Batch `step` of one part of batch size B times N has the pictures, as they are varied, of the N
    parts' batches `step` of size B, in the order of the parts.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        normalization: Normalization,
        *,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = False,
        augmentation: Augmentation | None = None,
        drop_last: bool = False,
        num_parts: int = 1,
        part_index: int = 0,
    ) -> None:
        """Takes what the batches are made of and draws the order of the epoch.

        Args:
            dataset: where the pictures come from.
            batch_size: pictures a batch; the last one may have fewer.
            normalization: turns the pictures into float32.
            seed: of all random choices, from 0.
            epoch: which epoch this is, from 0.
            shuffle: whether the order is random and another each epoch, or that of `dataset`.
            augmentation: how pictures are varied; None: not at all.
            drop_last: whether a last batch that is not full is left out.
            num_parts: workers that share the pictures out; together their batches hold each once.
            part_index: which of them this is, from 0.

        Raises:
            DataError: a number is out of range, or there would be no batch.
        """
        if batch_size < 1 or seed < 0 or epoch < 0:
            raise DataError(
                "batch_size must be at least 1, seed and epoch at least 0, "
                f"not {batch_size}, {seed} and {epoch}"
            )
        if not 0 <= part_index < num_parts:
            raise DataError(
                f"part_index {part_index} is outside 0 to num_parts - 1, {num_parts - 1}"
            )
        together = batch_size * num_parts
        if drop_last and len(dataset) < together:
            raise DataError(
                f"{len(dataset)} pictures fill no batch of {together}, and drop_last leaves out "
                "the rest: choose a smaller batch"
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.normalization = normalization
        self.augmentation = augmentation
        self.seed = seed
        self.epoch = epoch
        self.num_parts, self.part_index = num_parts, part_index
        count = len(dataset)
        self._order = _rng(_ORDER, seed, epoch).permutation(count) if shuffle else np.arange(count)
        if drop_last:
            self._order = self._order[: count - count % together]
        self._flipped = None
        if augmentation is not None and augmentation.flip == "alternating":
            self._flipped = (_rng(_FLIP, seed).random(count) < 0.5) ^ bool(epoch % 2)

        full, rest = divmod(len(self._order), together)
        self._length = full + (len(range(rest)[self._share(rest)]) > 0)
        if not self._length and num_parts > 1:
            raise DataError(
                f"{count} pictures leave none for part {part_index} of {num_parts}: take fewer"
            )

    def _share(self, count: int) -> slice:
        """The part's share of what so many pictures all parts have."""
        part, parts = self.part_index, self.num_parts
        return slice(count * part // parts, count * (part + 1) // parts)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        if not 0 <= step < len(self):
            raise IndexError(f"step {step} of an epoch of {len(self)} batches")
        together = self.batch_size * self.num_parts
        chosen = self._order[step * together : (step + 1) * together]
        count, share = len(chosen), self._share(len(chosen))
        chosen = chosen[share]
        images = self.dataset.images[chosen]
        if self.augmentation is not None:
            images = augment(
                images,
                self.augmentation,
                _rng(_AUGMENT, self.seed, self.epoch, step),
                fill=self.normalization.fill,
                flipped=None if self._flipped is None else self._flipped[chosen],
                together=count,
                share=share,
            )
        return self.normalization(images), self.dataset.labels[chosen]

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return self.from_step(0)

    def from_step(self, step: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The batches from a step on; none of those before is made."""
        return (self[each] for each in range(step, len(self)))


def _rng(*entropy: int) -> np.random.Generator:
    return np.random.default_rng(entropy)


class Prefetcher:
    """Iterates over the items of an iterable that a background thread makes ahead.

    An error in the iterable is raised where its item would have come. The thread ends with the
    items, on `close`, and when nothing refers to the Prefetcher any more.
    """

    def __init__(self, batches: Iterable, depth: int) -> None:
        if depth < 1:
            raise DataError(f"prefetch needs a depth of at least 1, not {depth}")
        self._batches = batches
        self._queue: queue.Queue = queue.Queue(depth)
        self._stop = threading.Event()
        # The thread must not refer to self: an abandoned Prefetcher could not be collected.
        self._thread = threading.Thread(
            target=_produce, args=(batches, self._queue, self._stop), name="prefetch", daemon=True
        )
        self._thread.start()

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Prefetcher:
        return self

    def __next__(self):
        if self._stop.is_set():
            raise StopIteration
        item, error = self._queue.get()
        if error is None:
            return item
        self.close()
        raise error

    def close(self) -> None:
        """Ends the thread; further items there are none."""
        self._release()
        self._thread.join()

    def _release(self) -> None:
        self._stop.set()
        while True:  # makes room for a thread that waits to put its item
            try:
                self._queue.get_nowait()
            except queue.Empty:
                return

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Without join: at the interpreter's end daemon threads stand still.
        if hasattr(self, "_thread"):
            self._release()


def prefetch(batches: Iterable, depth: int = 2) -> Prefetcher:
    """Makes the items of `batches` in a background thread, up to `depth` ahead.

    Raises:
        DataError: `depth` is below 1.
    """
    return Prefetcher(batches, depth)


def _produce(batches: Iterable, items: queue.Queue, stop: threading.Event) -> None:
    try:
        for item in batches:
            items.put((item, None))
            if stop.is_set():
                return
        items.put((None, StopIteration()))
    except BaseException as error:
        items.put((None, error))
