"""Data sets in memory or streamed, augmentation, and batches that (seed, epoch, step) settle."""

from gluon_ran.data.augment import Augmentation, augment
from gluon_ran.data.batches import Batches, Prefetcher, prefetch
from gluon_ran.data.catalog import DATASETS, OWN, find_dataset, kind_of, load_dataset
from gluon_ran.data.dataset import (
    DataError,
    Dataset,
    DiskError,
    class_counts,
    describe_classes,
    describe_imbalance,
)
from gluon_ran.data.folder import load_folder
from gluon_ran.data.held_out import hold_out
from gluon_ran.data.loading import SPLITS
from gluon_ran.data.noise import noisy_labels, with_label_noise
from gluon_ran.data.normalization import Normalization
from gluon_ran.data.pack import pack_folder
from gluon_ran.data.record_file import RecordFile
from gluon_ran.data.record_pairs import load_record_pair, open_record_pair
from gluon_ran.data.records import load_records
from gluon_ran.data.resize import shrink
from gluon_ran.data.stream import RecordBatches
from gluon_ran.data.transforms import TrainTransform, ValidationTransform

__all__ = [
    "DATASETS",
    "Augmentation",
    "Batches",
    "DataError",
    "Dataset",
    "DiskError",
    "Normalization",
    "OWN",
    "Prefetcher",
    "RecordBatches",
    "RecordFile",
    "SPLITS",
    "ValidationTransform",
    "TrainTransform",
    "augment",
    "class_counts",
    "describe_classes",
    "describe_imbalance",
    "find_dataset",
    "hold_out",
    "kind_of",
    "load_dataset",
    "load_folder",
    "load_record_pair",
    "load_records",
    "noisy_labels",
    "open_record_pair",
    "pack_folder",
    "prefetch",
    "shrink",
    "with_label_noise",
]
