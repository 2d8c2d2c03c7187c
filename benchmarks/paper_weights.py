"""The trained weights that come with the package, for the page: their cards, and what they see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from paper_figures import Figure
from PIL import Image

from gluon_ran.data.pictures import fit_picture
from gluon_ran.models import find_pretrained, get_model, read_card
from gluon_ran.models.pretrained import PACKAGED
from gluon_ran.visualize import plot_masks
from gluon_ran.visualize.report import Html, details, join, picture, table, tag

from mxnet import nd

_PICTURE = Path(__file__).parent / "pictures" / "cat.jpg"
_COMMANDS = ("weights", "commit", "command", "settings chosen by")
_FORMS = ("float32", "bfloat16", "int8", "onnx")


def weights_section(folder: Path, weights: Path = PACKAGED) -> Html:
    """The cards of a folder of trained weights with their masks over a picture; nothing of none.

    Args:
        folder: where the PNGs go.
        weights: the folder of NAME.params and NAME.json.

    Raises:
        ValueError: weights or a card are damaged.
    """
    names = sorted(path.stem for path in weights.glob("*.params"))
    if not names:
        return join()
    cards = {name: read_card(find_pretrained(name, weights)).training for name in names}
    text = (
        "Of no budget: one long run each, whose weights load by name. Accuracies in per cent on "
        "the whole test set, of the last epoch’s weights: scored alone, with the probabilities of "
        "each picture and its mirror image averaged, and in each form that is served."
    )
    head = ["weights", "data", "epochs", "time", "alone", "mirrored", *_FORMS]
    rows = [[tag("code", name), *_cells(training)] for name, training in cards.items()]
    commands = [
        [
            tag("code", name),
            training["commit"][:10],
            tag("code", training["command"]),
            training.get("chosen_by", "not told"),
        ]
        for name, training in cards.items()
    ]
    shown = [draw_masks(name, weights, folder / f"weights-masks-{name}.png") for name in names]
    return tag(
        "section",
        tag("h2", "Trained weights"), tag("p", text), table(head, rows, text=[1]),
        details("Each with its command", table(list(_COMMANDS), commands, text=[2, 3])),
        tag("h3", "Soft masks"), *(picture(each.path, each.alt, each.caption) for each in shown),
        id="weights",
    )  # fmt: skip


def _cells(training: dict[str, Any]) -> list[str]:
    measured, seconds = training["measured"], training["wall_seconds"] or training["seconds"]
    served = [measured["served"].get(form) for form in _FORMS]
    accuracies = [measured["top1"], measured["top1_flip"], *served]
    return [
        training["data"], str(training["recipe"]["epochs"]), f"{seconds / 60:,.0f} min",
        *("refused" if top1 is None else f"{100 * top1:.2f}" for top1 in accuracies),
    ]  # fmt: skip


def draw_masks(name: str, weights: Path, path: Path) -> Figure:
    """Draws each module's mask, its mean over the channels, over the picture of a cat."""
    card = read_card(find_pretrained(name, weights))
    if not _PICTURE.is_file():
        raise ValueError(f"{_PICTURE} is missing, over which masks are drawn: restore it")
    with Image.open(_PICTURE) as opened:
        seen = fit_picture(opened.convert("RGB"), card.size or card.spec.input_size, "crop")
    net = get_model(name, pretrained=True, root=weights)
    plot_masks(seen[None], net.masks(nd.array(card.normalization(seen[None]))), path, ["cat"])
    sides = "x".join(map(str, np.shape(seen)[:2]))
    return Figure(path, f"a cat and the soft masks of {name} over it", f"{name}, at {sides} pixels")
