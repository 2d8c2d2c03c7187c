"""One epoch of batches out of a RecordIO file of any size, decoded in threads.

MXNet's own ImageRecordIter decodes in one thread where there are two cores, and with more threads
its crops and jitter differ from run to run: each thread has a generator of its own and takes
whichever record comes next. `seed_aug` settles them, but gives a picture the same crop and jitter
as its place in the batch had before, in every batch of every epoch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from gluon_ran.data.dataset import DataError
from gluon_ran.data.loading import BROKEN
from gluon_ran.data.normalization import Normalization
from gluon_ran.data.parallel import cores, map_ahead
from gluon_ran.data.pictures import check_choice
from gluon_ran.data.record_file import PairError, RecordFile
from gluon_ran.data.transforms import TrainTransform, ValidationTransform

_log = logging.getLogger(__name__)

# The streams of random numbers, each its own however the seed, epoch and step fall.
_ORDER, _CHOICES = range(4, 6)
# Pictures that a thread decodes at a time: few, so that all threads end a batch together.
_CHUNK = 8


class _Batch(NamedTuple):
    images: np.ndarray
    labels: np.ndarray
    kept: np.ndarray


class _Chunk(NamedTuple):
    batch: _Batch
    rows: range
    numbers: list
    choices: list


class RecordBatches:
    """The batches of one epoch, made by threads ahead of their use.

    A batch is its pictures, float32 (B, 3, H, W), and labels, int32 (B,). It is a function of
    (seed, epoch, step) and nothing else: not of the threads, nor of how many parts the records are
    shared out to, since batch `step` of one part of batch size B times N has the pictures, crops
    and colours of the N parts' batches `step` of size B, in the order of the parts.

    Memory does not grow with the pictures: it holds the batches being made and 16 bytes a record.
    That of a batch is used again once nothing refers to its arrays or parts of them.

    Args:
        records: where the pictures come from.
        batch_size: pictures a batch; the last one may have fewer.
        transform: what is done to the pictures.
        normalization: turns them into float32; with a mean a channel.
        seed: of all random choices, from 0.
        epoch: which epoch this is, from 0.
        shuffle: whether the order is random and another each epoch, or that of `records`.
        drop_last: whether a last batch that is not full is left out.
        num_parts: workers that share the records out; together their batches hold each once.
        part_index: which of them this is, from 0.
        broken: 'refuse' raises for a record that is damaged, whose label is no class or whose
            picture can't be decoded; 'skip' logs it once and leaves it out, so that its batch is
            smaller. A file that is cut short, or an .idx of another, is an error in either case.
        drop_broken: leave out, as a test can, a batch of which every picture is left out; else that
            is an error, since a batch of training is a step.
        threads: how many decode; None: as many as there are cores.
        ahead: batches that are made ahead of the one in use.

    Attributes:
        left_out: how many pictures are missing from each batch that was made and lacks some, by
            its step.

    Raises:
        DataError: a number is out of range, or there would be no batch. Iterating raises it for a
            broken record or picture.
    """

    def __init__(
        self,
        records: RecordFile,
        batch_size: int,
        transform: TrainTransform | ValidationTransform,
        normalization: Normalization,
        *,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        num_parts: int = 1,
        part_index: int = 0,
        broken: str = "refuse",
        drop_broken: bool = False,
        threads: int | None = None,
        ahead: int = 2,
    ) -> None:
        _check_least(batch_size=(batch_size, 1), seed=(seed, 0), epoch=(epoch, 0), ahead=(ahead, 1),
                     threads=(1 if threads is None else threads, 1))  # fmt: skip
        check_choice("broken", broken, BROKEN)
        if not 0 <= part_index < num_parts:
            raise DataError(
                f"part_index {part_index} is outside 0 to num_parts - 1, {num_parts - 1}"
            )
        if normalization.mean.ndim != 1:
            raise DataError(
                "a stream's normalisation needs a mean a channel, not a mean picture: give another "
                "(--normalization imagenet)"
            )
        self.records, self.batch_size, self.broken = records, batch_size, broken
        self.transform, self.normalization = transform, normalization
        self.seed, self.epoch = seed, epoch
        self.num_parts, self.part_index = num_parts, part_index
        self.threads, self.ahead = threads or cores(), ahead
        self.left_out: dict[int, int] = {}
        count = len(records)
        rng = np.random.default_rng((_ORDER, seed, epoch))
        self._drop_broken = drop_broken
        self._order = rng.permutation(count) if shuffle else np.arange(count)
        full, rest = divmod(count, batch_size * num_parts)
        self._length = full + (not drop_last and len(range(*self._share(rest))) > 0)
        if not self._length:
            raise DataError(
                f"{records.path}: its {count} records fill no batch of {batch_size} for part "
                f"{part_index} of {num_parts}: choose a smaller batch or fewer parts"
            )

    def _share(self, count: int) -> tuple[int, int]:
        """From where to where the part has its share of what so many pictures all parts have."""
        part, parts = self.part_index, self.num_parts
        return count * part // parts, count * (part + 1) // parts

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return self.from_step(0)

    def from_step(self, step: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The batches from a step on; none of those before is made.

        Raises:
            DataError: a record or picture is broken, or where they are skipped, all of a batch are,
                or with `drop_broken` all of all batches.
        """
        chunks = (chunk for each in range(step, len(self)) for chunk in self._chunks(each))
        ahead = self.ahead * -(-self.batch_size // _CHUNK)
        done = map_ahead(self._fill, chunks, self.threads, ahead)
        whole = 0
        try:
            for each in range(step, len(self)):
                batch = self._whole(each, done)
                if batch is not None:
                    whole += 1
                    yield batch
        finally:
            done.close()
        if not whole and step < len(self):
            raise DataError(f"{self.records.path}: all of its pictures are broken; make it again")
        self._log_left_out(step)

    def _log_left_out(self, step: int) -> None:
        lacking = sum(self.left_out.get(each, 0) for each in range(step, len(self)))
        if not lacking:
            return
        last = len(range(*self._share(len(self._numbers(len(self) - 1)))))
        count = (len(self) - 1 - step) * self.batch_size + last
        where = f" from batch {step + 1} on" if step else ""
        _log.warning("left out %s of %s pictures of %s%s", f"{lacking:,}", f"{count:,}",
                     self.records.path, where)  # fmt: skip

    def _numbers(self, step: int) -> np.ndarray:
        """The records of a batch, those of all parts."""
        together = self.batch_size * self.num_parts
        return self._order[step * together : (step + 1) * together]

    def _chunks(self, step: int) -> Iterator[_Chunk]:
        """The parts of a batch that threads make, in its order."""
        numbers = self._numbers(step)
        rng = np.random.default_rng((_CHOICES, self.seed, self.epoch, step))
        choices = self.transform.choose(rng, len(numbers))
        share = slice(*self._share(len(numbers)))
        numbers, choices = numbers[share].tolist(), choices[share]
        count = len(numbers)
        batch = _Batch(
            self.records.memory.array((count, 3, *self.transform.size)),
            np.empty(count, np.int32),
            np.ones(count, bool),
        )
        for start in range(0, count, _CHUNK):
            rows = range(start, min(start + _CHUNK, count))
            part = slice(rows.start, rows.stop)
            yield _Chunk(batch, rows, numbers[part], choices[part])

    def _fill(self, chunk: _Chunk) -> _Chunk:
        images, labels, kept = chunk.batch
        for row, number, choices in zip(chunk.rows, chunk.numbers, chunk.choices):
            where = self.records.where(number)
            try:
                labels[row], encoded = self.records.read(number)
                self.transform(encoded, where, choices, self.normalization, images[row])
            except PairError:
                raise
            except DataError as error:
                self._leave_out(number, error)
                kept[row] = False
        return chunk

    def _leave_out(self, number: int, error: DataError) -> None:
        if self.broken == "refuse":
            raise DataError(
                f"{error}; or leave such pictures out with broken='skip' (--broken skip)"
            ) from None
        if number not in self.records.broken:  # named once, not in every epoch
            self.records.broken.add(number)
            _log.warning("left out: %s", error)

    def _whole(self, step: int, done: Iterator[_Chunk]) -> tuple[np.ndarray, np.ndarray] | None:
        """Waits for all chunks of a batch; None where nothing of it is to be had."""
        chunk = next(done)
        images, labels, kept = chunk.batch
        list(islice(done, -(-len(labels) // _CHUNK) - 1))
        if kept.all():
            return images, labels
        self.left_out[step] = int((~kept).sum())
        if not kept.any() and self._drop_broken:
            return None
        if not kept.any():
            raise DataError(
                f"{self.records.path}: all {len(kept)} pictures of batch {step} are broken; make "
                "the file again, or choose larger batches"
            )
        return images[kept], labels[kept]


def _check_least(**numbers: tuple[int, int]) -> None:
    for name, (value, least) in numbers.items():
        if value < least:
            raise DataError(f"{name} must be at least {least}, not {value}")
