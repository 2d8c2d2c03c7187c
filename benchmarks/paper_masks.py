"""Soft masks of trained networks, where their run directories and data are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from paper_collect import Collected
from paper_figures import Figure
from record_run import last_weights

from gluon_ran.data import Dataset, load_dataset
from gluon_ran.data.cifar import CIFAR
from gluon_ran.data.download import cache_folder
from gluon_ran.training import RunDirectory
from gluon_ran.visualize import plot_masks

from mxnet import nd

_PICTURES, _NETWORKS = 4, 8


def draw_masks(collected: Collected, runs: Path, folder: Path) -> tuple[list[Figure], list[str]]:
    """Draws the masks of a few test pictures for the first networks that differ in their Spec.

    Args:
        collected: whose networks.
        runs: folder of the run directories; what is not there is left out.
        folder: where the PNGs go.

    Returns:
        The figures, and why others are left out: a line each.
    """
    drawn, left_out, gone, data = [], [], [], {}
    labels = {name: "; ".join(each) for name, each in collected.labels().items()}
    for group in _candidates(collected):
        there = [
            (name, run)
            for name, result in group
            if (run := runs / collected.budget.name / result["name"]).is_dir()
        ]
        if not there:
            gone.append(f"{group[0][0]}: its run directory is not there")
            continue
        name, run = there[0]
        if len(drawn) == _NETWORKS:
            left_out.append(f"{name}: there are {_NETWORKS} networks above")
            continue
        try:
            drawn.append(
                _draw(
                    name,
                    labels[name],
                    run,
                    folder / f"{collected.budget.name}-masks-{name}.png",
                    data,
                )
            )
        except (ValueError, RuntimeError, OSError) as error:
            left_out.append(f"{name}: {error}")
    return drawn, left_out + gone if drawn or left_out else []


def _candidates(collected: Collected) -> list[list[tuple[str, dict[str, Any]]]]:
    """The results of each Spec with attention modules, in the experiments' order of rows."""
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    labels = collected.labels()
    for name, results in collected.trainings().items():
        for result in results if name in labels else ():
            if any(result["spec"].get("modules", ())):
                key = repr(sorted(result["spec"].items(), key=repr))
                found.setdefault(key, []).append((name, result))
    return list(found.values())


def _draw(name: str, label: str, run: Path, path: Path, data: dict[Any, Dataset]) -> Figure:
    trained = last_weights(RunDirectory.open(run))
    test = _test_set(trained.run, data)
    indices = _one_a_class(test)
    net = trained.network()
    masks = net.masks(nd.array(trained.normalization(test.images[indices])))
    names = [test.class_names[test.labels[i]] for i in indices]
    plot_masks(test.images[indices], masks, path, names)
    alt = f"{len(indices)} test pictures and the soft masks of {name} over them"
    return Figure(path, alt, label)


def _test_set(run: RunDirectory, data: dict[Any, Dataset]) -> Dataset:
    """The test set of a run, read once; never downloaded."""
    dataset, folder = run.data["dataset"], run.data["data_dir"]
    if folder is None and dataset in CIFAR:
        folder = str(cache_folder(dataset))
    if (dataset, folder) not in data:
        data[dataset, folder] = load_dataset(dataset, folder, splits=("test",))[0]
    return data[dataset, folder]


def _one_a_class(test: Dataset) -> Sequence[int]:
    """The first picture of each of some classes, from the first class to the last."""
    there = np.unique(test.labels)
    some = there[np.linspace(0, len(there) - 1, min(_PICTURES, len(there))).round().astype(int)]
    return [int(np.argmax(test.labels == each)) for each in some]
