"""Data sets in memory, whole-batch augmentation, and batches that (seed, epoch, step) settle."""

from gluon_ran.data.augment import Augmentation, augment
from gluon_ran.data.batches import Batches, Prefetcher, prefetch
from gluon_ran.data.catalog import DATASETS, load_dataset
from gluon_ran.data.dataset import DataError, Dataset
from gluon_ran.data.normalization import Normalization
from gluon_ran.data.records import load_records

__all__ = [
    "DATASETS",
    "Augmentation",
    "Batches",
    "DataError",
    "Dataset",
    "Normalization",
    "Prefetcher",
    "augment",
    "load_dataset",
    "load_records",
    "prefetch",
]
