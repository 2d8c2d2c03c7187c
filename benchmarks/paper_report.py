"""The results of paper.py as one HTML page, with its figures inside it and beside it as PNGs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from paper_collect import (
    Collected,
    Entry,
    Table,
    collect,
    paper_head,
    published,
    spread,
    who_published,
)
from paper_figures import Figure, draw_confusion, draw_curves, draw_errors, drawn_as_bars
from paper_masks import draw_masks
from paper_weights import weights_section

from gluon_ran.models.pretrained import PACKAGED
from gluon_ran.visualize.report import Html, details, figures, join, page, picture, table, tag

_TITLE = "Residual Attention Networks: the paper’s experiments, trained anew"
_ORIGINS = {
    "remembered": "? of the paper, but from memory, not seen in a copy of it",
    "reported": "† reported by the re-implementation, of its best epoch: see ours",
}


def write_report(results: Path, runs: Path, out: Path, weights: Path = PACKAGED) -> Path:
    """Writes OUT/report.html and OUT/figures/*.png; the same results and weights give the same.

    Args:
        results: folder of the results, a folder a budget.
        runs: folder of the run directories, for masks; it need not be there.
        out: a folder, which is made.
        weights: folder of trained weights, by itself the package's.

    Returns:
        The page.

    Raises:
        ValueError: there are no results, one or the weights are damaged, or `out` can't be written.
    """
    found = collect(results)
    folder, target = out / "figures", out / "report.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trained = weights_section(folder, weights)
        budgets = [_budget(each, runs, folder) for each in found]
        body = [_head(found, bool(trained)), *budgets, trained]
        page(_TITLE, body, target)
    except OSError as error:
        raise ValueError(
            f"{out} can't be written ({error.filename}: {error.strerror}): give another --out"
        ) from None
    return target


def _head(found: Sequence[Collected], with_weights: bool) -> Html:
    """What the page is, how it is read, and what is on it."""
    results = [result for each in found for result in each.results.values()]
    paper = tag("a", "arXiv 1704.06904", href="https://arxiv.org/abs/1704.06904")
    count = "one training" if len(results) == 1 else f"{len(results):,} trainings"
    intro = join(
        "What gluon_ran reached in the experiments of “Residual Attention Network for Image "
        "Classification” (", paper, f") on CIFAR and of an earlier Gluon port: {count}, ",
        tag("span", _dates(results), class_="nowrap"), ". Made by ",
        tag("code", "python benchmarks/paper.py report"),
        " from the kept results; commands, commits and machines stand at the end of each part.",
    )  # fmt: skip
    rows = [
        [
            tag("a", each.budget.name, href=f"#{each.budget.name}"), each.budget.text,
            str(len(each.results)), "yes" if each.budget.comparable else "no",
        ]
        for each in found
    ]  # fmt: skip
    head = ["budget", "what it is", "trainings", "comparable"]
    return join(
        tag("h1", _TITLE),
        tag("p", intro),
        table(head, rows, text=[1]),
        _reading(),
        _nav(found, with_weights),
    )


def _reading() -> Html:
    items = [
        "Errors are top-1 errors on the whole test set, in per cent, of the weights behind the "
        "last epoch. No row was chosen by them; two earlier settings of the recipe that all rows "
        "share had been scored on the test set too, and how the settings of the trained weights at "
        "the end were chosen is told there.",
        "Where there are several seeds, the error is the mean of their runs and the range is from "
        "the lowest to the highest run. Differences that are no larger than the ranges say "
        "nothing.",
        "The best epoch is chosen on the test set, so its error flatters; it is only there "
        "because others report it.",
        "The paper’s errors are of networks trained in full. Where a budget is smaller, they stand "
        "apart, for scale.",
    ]
    return tag("ul", *(tag("li", item) for item in items))


def _nav(found: Sequence[Collected], with_weights: bool) -> Html:
    lines = []
    for each in found:
        links = [
            tag("a", t.experiment.name, href=f"#{each.budget.name}-{t.experiment.name}")
            for t in each.tables
        ]
        between = [part for link in links for part in (", ", link)][1:]
        alone = f". With one row, which other tables have too: {', '.join(each.alone)}."
        lines.append(
            tag("p", f"Budget “{each.budget.name}”: ", *between, alone if each.alone else "")
        )
    if with_weights:
        lines.append(tag("p", tag("a", "Trained weights", href="#weights")))
    return tag("nav", *lines)


def _budget(collected: Collected, runs: Path, folder: Path) -> Html:
    budget = collected.budget
    if budget.comparable:
        what = tag("p", f"{_sentence(budget.text)}.")
    else:
        what = tag(
            "p", tag("strong", f"Not comparable with the paper: {budget.text}."), " The paper’s "
            "errors are of networks trained in full and stand apart, for scale alone. ",
            budget.shows, class_="warning",
        )  # fmt: skip
    parts = [tag("h2", f"Budget “{budget.name}”"), what]
    data = sorted(
        {
            f"{r['dataset']}: {r['data'] or 'nothing was said of them'}"
            for r in collected.results.values()
            if r["dataset"] != "digits"
        }
    )
    if data:
        parts.append(tag("p", f"Data: {'; '.join(data)}.", class_="source"))
    parts += [_experiment(each, folder) for each in collected.tables]
    parts += [_masks(collected, runs, folder), _confusions(collected, folder), _making(collected)]
    return tag("section", *parts, id=budget.name)


def _experiment(t: Table, folder: Path) -> Html:
    experiment, budget = t.experiment, t.budget
    datasets = sorted({result["dataset"] for each in t.entries for result in each.results})
    source = f"Experiment “{experiment.name}” (source: {experiment.source}), on "
    source += f"{', '.join(datasets)}."
    parts = [
        tag("h3", experiment.title),
        tag("p", f"{source} {experiment.note}".strip(), class_="source"),
        _error_table(t),
    ]
    if t.missing:
        count = f"{len(t.missing)} of {len(experiment.rows)} rows"
        text = f"Not in the table: {count}"
        parts.append(details(text, tag("p", f"{'; '.join(t.missing)}.", class_="source")))
    errors = [_shown(each) for each in draw_errors(t, folder)]
    curves = [_shown(each) for each in draw_curves(t, folder)]
    if errors and curves and drawn_as_bars(t):  # one above the other, as high as the curves
        errors = [tag("div", *errors)]
    parts.append(figures(*errors, *curves))
    return tag("section", *parts, id=f"{budget.name}-{experiment.name}")


def _error_table(t: Table) -> Html:
    known = any(each.row.published for each in t.entries)
    apart = known and not t.budget.comparable
    columns = ["network", "error %", "range", "seeds", "parameters"]
    # With one epoch at the pictures' own size there is no choice of a best one.
    best = any(each.best != each.errors for each in t.entries)
    if best:
        columns.insert(3, "best epoch %")
    place = len(columns) if apart else 3  # of the published errors
    if known:
        columns.insert(place, f"{paper_head(t)}, error %")
    rows = []
    for each in t.entries:
        cells = _error_cells(each, best)
        if known:
            cells.insert(place, published(each.row))
        rows.append(cells)
    if not apart:
        return table(columns, rows, _caption(t))
    groups = [("", 1), (f"ours, budget “{t.budget.name}”", place - 1), ("for scale only", 1)]
    return table(columns, rows, _caption(t), groups, apart=place)


def _error_cells(entry: Entry, best: bool) -> list[str]:
    parameters = sorted({result["parameters"] for result in entry.results})
    return [
        entry.label, tag("strong", f"{mean(entry.errors):.2f}"), spread(entry.errors),
        *([f"{mean(entry.best):.2f}"] if best else []), str(len(entry.errors)),
        ", ".join(f"{count / 1e6:.2f} M" for count in parameters),
    ]  # fmt: skip


def _caption(t: Table) -> str:
    origins = {each.row.published.origin for each in t.entries if each.row.published}
    parts = []
    if origins and not t.budget.comparable:
        who = who_published(t)
        parts.append(
            f"The two sides can’t be compared. Ours: {t.budget.text}. The {who}’s networks were "
            "trained in full"
        )
    parts += [text for origin, text in _ORIGINS.items() if origin in origins]
    return "".join(f"{part}. " for part in parts).strip()


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _shown(figure: Figure) -> Html:
    return picture(figure.path, figure.alt, figure.caption)


def _masks(collected: Collected, runs: Path, folder: Path) -> Html:
    drawn, left_out = draw_masks(collected, runs, folder)
    parts = [tag("h3", "Soft masks")]
    if drawn:
        text = (
            "Mean over the channels of each module’s soft mask, in colour over the picture in "
            "grey, of a network’s first run with the weights behind its last epoch. The colours of "
            "a column span what its masks span, as written above it."
        )
        parts += [tag("p", text, class_="source"), *map(_shown, drawn)]
    elif not left_out:
        parts.append(tag("p", "Left out: no run directory of a network with masks is there."))
    if left_out:
        parts.append(tag("p", f"Left out: {'; '.join(left_out)}.", class_="source"))
    return join(*parts)


def _confusions(collected: Collected, folder: Path) -> Html:
    text = (
        "Of the same weights, scored in float32: where training scored in another precision, a few "
        "pictures may fall otherwise than in the tables."
    )
    parts = [tag("h3", "Confusion matrices"), tag("p", text, class_="source")]
    labels = collected.labels()
    for name, results in collected.trainings().items():
        first, *others = labels.get(name, [name])
        wrong = mean(100 * (1 - result["final_top1"]) for result in results)
        also = [tag("p", f"The same training: {'; '.join(others)}.", class_="source")]
        shown = _shown(draw_confusion(name, results, folder))
        parts.append(details(f"{first} (error {wrong:.2f} %)", *(also if others else []), shown))
    return join(*parts)


def _making(collected: Collected) -> Html:
    """Where the results are from: commands, commits, machines."""
    results = list(collected.results.values())
    rows = [
        [
            result["name"], str(len(result["epochs"])), _time(result["seconds"]),
            str(result["threads"]), result["date"][:10], _commit(result),
            tag("code", result["trained_by"]),
        ]
        for result in results
    ]  # fmt: skip
    head = ["training", "epochs", "time", "threads", "ended", "commit", "command"]
    spent = _time(sum(result["seconds"] for result in results))
    lines = [
        tag("h3", "How it was made"),
        tag(
            "p",
            f"{len(results)} trainings, {spent} in all, ",
            tag("span", _dates(results), class_="nowrap"),
            ".",
        ),
        tag("ul", *(tag("li", tag("code", c)) for c in _different(r["command"] for r in results))),
        tag("ul", *(tag("li", m) for m in _different(map(_machine, results)))),
        details("Each training with its command", table(head, rows, text=[6])),
    ]
    if collected.strays:
        names = ", ".join(collected.strays)
        lines.append(tag("p", f"Results of no experiment, in no table: {names}."))
    return join(*lines)


def _machine(result: dict[str, Any]) -> str:
    machine = result["machine"]
    parts = [str(machine.get("cpu", "?")), f"{machine.get('usable_cores', '?')} cores"]
    parts += [str(machine.get("system", "?")), f"Python {machine.get('python', '?')}"]
    return f"{', '.join(parts)}; commit {_commit(result)}"


def _time(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h" if seconds >= 5400 else f"{seconds / 60:,.0f} min"


def _commit(result: dict[str, Any]) -> str:
    commit, changed, _ = (result.get("commit") or "unknown").partition("+")
    return commit[:10] + (" with changes" if changed else "")


def _dates(results: Sequence[dict[str, Any]]) -> str:
    days = sorted({result["date"][:10] for result in results})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _different(texts: Any) -> list[str]:
    return sorted(set(texts))
