"""benchmarks/paper_report.py: the page, its numbers and its figures, from made-up results."""

import base64
import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from benchmark_modules import imported
from PIL import Image
from runs import new_run, train
from small import RECIPE, SPEC, dataset

from gluon_ran.models import find_spec
from gluon_ran.models.pretrained import PACKAGED

WEIGHTS = "cifar_attention56_thin"

# Rows that no other experiment shares: experiment, its row, and the errors of the seeds.
SHORT = [
    ("attention-type", 1, (20.0, 21.0)),
    ("attention-type", 2, (18.5, 18.1)),
    ("label-noise", 1, (30.0,)),
    ("label-noise", 2, (40.0,)),
]
FULL = [("attention-type", 1, (6.5, 6.1)), ("attention-type", 2, (7.0,))]
MODULES = ("paper_report", "paper_collect", "paper_plan", "paper_experiments", "readme_tables",
           "paper", "paper_masks")  # fmt: skip


class Modules:
    def __init__(self, modules):
        for name, module in zip(MODULES, modules):
            setattr(self, name.replace("paper_", ""), module)

    def write(self, results, budget, rows, **more):
        """Made-up results of rows."""
        for name, number, errors in rows:
            experiment = self.experiments.EXPERIMENTS[name]
            row, budget_of = experiment.rows[number], self.plan.BUDGETS[budget]
            for seed, error in enumerate(errors):
                planned = self.plan.of_row(experiment, row, budget_of, seed)
                path = planned.result(results)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps({**made_up(planned, error, seed), **more}))
        return path


def made_up(planned, error, seed):
    final = round(1 - error / 100, 4)
    epochs = [
        {"epoch": e, "train_loss": 2.0 - e, "val_top1": top1, "size": size}
        for e, top1, size in ((0, 0.2, 16), (1, final, None))
    ]
    return {
        "name": planned.name, "flags": list(planned.flags), "budget": planned.budget.name,
        "model": planned.model, "parameters": 1_234_567, "dataset": planned.dataset,
        "data": "CIFAR-10 <of mine>", "trained_by": "python train/x.py", "threads": 1,
        "command": "python benchmarks/paper.py run all", "date": f"2026-01-0{seed + 1}T10:00:00",
        "commit": "0123456789abcdef+changes", "machine": {"cpu": "Some & CPU", "usable_cores": 2},
        "recipe": json.loads(planned.recipe.to_json()),
        "spec": json.loads(find_spec(planned.model).to_json()),
        "final_top1": final, "best_top1": final + 0.01, "best_epoch": 2, "seconds": 600.0,
        "epochs": epochs, "confusion": [[90, 10], [20, 80]],
    }  # fmt: skip


@pytest.fixture(scope="module")
def modules():
    with pytest.MonkeyPatch.context() as monkeypatch, imported(monkeypatch, *MODULES) as found:
        yield Modules(found)


class Page(HTMLParser):
    """What a page asks for, links to, shows and says."""

    VOID = {"meta", "img", "br", "link"}

    def __init__(self, text):
        super().__init__()
        self.requests, self.ids, self.links, self.images = [], [], [], []
        self.cells, self._open, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self._open == [], "every element is closed"
        css = re.search("<style>(.*?)</style>", text, re.DOTALL).group(1)
        self.requests += re.findall(r"@import|url\(|https?:", css)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self._open += [] if tag in self.VOID else [tag]
        assert tag not in ("script", "link", "iframe", "object", "embed", "base")
        self.requests += [v for k, v in given.items() if k in ("src", "srcset", "style", "poster")]
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if tag == "a" else []
        if tag == "img":
            self.images.append(given)
        if tag == "tr":
            self.cells.append([])
        if tag in ("th", "td"):
            self.cells[-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += "" if "style" in self._open else data
        if {"th", "td"} & set(self._open):
            self.cells[-1][-1] += data

    def row(self, label):
        (found,) = [row for row in self.cells if row and row[0] == label]
        return found


@pytest.fixture(scope="module")
def written(modules, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    modules.write(folder / "results", "short", SHORT)
    modules.write(folder / "results", "full", FULL)
    (folder / "weights").mkdir()
    for suffix in (".params", ".json"):
        shutil.copy(PACKAGED / f"{WEIGHTS}{suffix}", folder / "weights")
    path = modules.report.write_report(
        folder / "results", folder / "runs", folder / "out", folder / "weights"
    )
    assert path == folder / "out" / "report.html"
    return path


@pytest.fixture(scope="module")
def page(written):
    return Page(written.read_text(encoding="utf-8"))


def part(written, start, end=None):
    text = written.read_text(encoding="utf-8")
    return text[text.index(f'<section id="{start}">') : text.index(end) if end else None]


def _attention(written, budget):
    end = '<section id="short-label-noise">' if budget == "short" else "<h3>Soft masks"
    return part(written, f"{budget}-attention-type", end)


def test_the_page_asks_for_nothing(page):
    assert all(each.startswith("data:image/png;base64,") for each in page.requests)
    outside = [link for link in page.links if not link.startswith("#")]
    assert outside == ["https://arxiv.org/abs/1704.06904"]
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)


def test_every_figure_is_in_the_page_and_beside_it(page, written):
    files = sorted(path.name for path in (written.parent / "figures").iterdir())
    assert len(page.images) == len(files) == 3 + 2 + 4 + 2 + 2 + 1
    some = ("attention-type-errors", "attention-type-paper", "label-noise-curves")
    assert {f"short-{name}.png" for name in some} <= set(files)
    assert "full-attention-type-paper.png" not in files, "it stands in the same figure"
    for given in page.images:
        with Image.open(io.BytesIO(base64.b64decode(given["src"].partition(",")[2]))) as image:
            image.load()
            assert image.format == "PNG" and image.width > 400
        assert len(given["alt"]) > 20
        assert int(given["width"]) < image.width


def test_bars_stand_one_above_the_other_beside_the_curves(written):
    shown = _attention(written, "short").partition('<div class="figures">')[2]
    assert shown.startswith("<div><figure>")
    bars, _, beside = shown.partition("</div>")
    assert bars.count("<img") == 2 and beside.count("<img") == 1
    noise = part(written, "short-label-noise")  # lines, which are higher
    assert '<div class="figures"><figure>' in noise


def test_the_numbers_are_those_computed_by_hand(written):
    short = Page("<style></style>" + _attention(written, "short"))
    row = short.row("channel: L2 over the channels")
    assert row[1:] == ["20.50", "20.00 to 21.00", "19.50", "2", "1.23 M", "6.24 ?"]
    assert short.row("spatial: standardised planes")[1:3] == ["18.30", "18.10 to 18.50"]
    assert "Not in the table: 1 of 3 rows" in short.text
    full = Page("<style></style>" + _attention(written, "full"))
    assert full.row("channel: L2 over the channels")[1:4] == ["6.30", "6.10 to 6.50", "6.24 ?"]
    assert full.row("spatial: standardised planes")[1:4] == ["7.00", "", "6.33 ?"]


def test_only_the_full_budget_stands_beside_the_paper(written):
    short = part(written, "short")
    full = part(written, "full", '<section id="short">')
    for text in ("Not comparable with the paper: 4 epochs", "paper, trained in full, error %",
                 "for scale only", "The two sides can’t be compared", 'class="apart"'):  # fmt: skip
        assert text in short and text not in full
    assert ">paper, error %<" in full


def test_the_packaged_weights_have_their_card_and_masks(page, written):
    training = json.loads((PACKAGED / f"{WEIGHTS}.json").read_text())["training"]
    told = training["measured"]
    rows = [row for row in page.cells if row[0] == WEIGHTS]
    assert rows[0][1:3] == [training["data"], str(training["recipe"]["epochs"])]
    forms = ("float32", "bfloat16", "int8", "onnx")
    accuracies = [told["top1"], told["top1_flip"], *(told["served"][form] for form in forms)]
    assert rows[0][4:] == [f"{100 * top1:.2f}" for top1 in accuracies]
    assert rows[1][1:] == [training["commit"][:10], training["command"], training["chosen_by"]]
    assert "#weights" in page.links
    with Image.open(written.parent / "figures" / f"weights-masks-{WEIGHTS}.png") as image:
        assert np.asarray(image.convert("RGB")).std() > 10


def test_what_the_results_say_is_escaped(written, page):
    assert "CIFAR-10 <of mine>" in page.text and "Some & CPU" in page.text
    assert "<of mine>" not in written.read_text(encoding="utf-8")
    assert "0123456789 with changes" in page.text
    assert "2026-01-01 to 2026-01-02" in page.text


def test_the_same_results_give_the_same_bytes(modules, tmp_path):
    modules.write(tmp_path / "results", "full", FULL[1:])
    bytes_of = []
    for out in (tmp_path / "a", tmp_path / "b"):
        modules.report.write_report(tmp_path / "results", tmp_path, out, tmp_path / "none")
        files = sorted(path for path in out.rglob("*") if path.is_file())
        bytes_of.append([(path.relative_to(out), path.read_bytes()) for path in files])
    assert bytes_of[0] == bytes_of[1] and len(bytes_of[0]) == 3


def test_results_of_no_row_and_of_another_precision_are_named(modules, tmp_path):
    path = modules.write(tmp_path, "short", SHORT[:1])
    stray = json.loads(path.read_text())
    stray["name"] = "cifar10-gone-seed0"
    path.with_name("cifar10-gone-seed0.json").write_text(json.dumps(stray))
    experiment = modules.experiments.EXPERIMENTS["attention-type"]
    other = modules.plan.of_row(
        experiment, experiment.rows[1], modules.plan.BUDGETS["short"], 0, "float32"
    )
    other.result(tmp_path).write_text(json.dumps(made_up(other, 25.0, 0)))
    (found,) = modules.collect.collect(tmp_path)
    assert found.strays == ("cifar10-gone-seed0",)
    (table,) = found.tables
    label = experiment.rows[1].label
    assert [(e.label, len(e.results)) for e in table.entries] == [
        (label, 2), (f"{label}, float32", 1),
    ]  # fmt: skip
    assert len(table.missing) == 2 and sum(map(len, found.trainings().values())) == 4


def test_a_row_that_another_table_has_makes_no_table_of_its_own(modules, tmp_path):
    experiments = modules.experiments.EXPERIMENTS
    for row in experiments["attention-type"].rows:
        planned = modules.plan.of_row(
            experiments["attention-type"], row, modules.plan.BUDGETS["smoke"], 0
        )
        planned.result(tmp_path).parent.mkdir(exist_ok=True)
        planned.result(tmp_path).write_text(json.dumps(made_up(planned, 25.0, 0)))
    (found,) = modules.collect.collect(tmp_path)
    assert [table.experiment.name for table in found.tables] == ["attention-type"]
    assert "mask-structure" in found.alone and "attention-type" not in found.alone
    path = modules.report.write_report(tmp_path, tmp_path, tmp_path / "out", tmp_path / "none")
    text = Page(path.read_text(encoding="utf-8")).text
    assert f"With one row, which other tables have too: {', '.join(found.alone)}." in text
    assert "Nothing can be compared" in text and "What can be compared" not in text


@pytest.mark.parametrize(
    "change, message",
    [
        ({"final_top1": 1.5}, "final_top1 is 1.5"),
        ({"final_top1": None}, "final_top1 is None"),
        ({"epochs": []}, "no epoch"),
        ({"epochs": [{"epoch": 0}]}, "no 'train_loss'"),
        ({"epochs": [{"epoch": 0, "train_loss": 1.0, "val_top1": "x"}]}, "no result"),
        ({"confusion": [[1, 2]]}, "no square of counts"),
        ({"confusion": [[0, 0], [0, 0]]}, "negative counts, or none"),
        ({"recipe": {}}, "no 'seed'"),
        ({"name": "another"}, "it is named another"),
        ({"flags": ["--epochs", "9"]}, "of other settings"),
    ],
)
def test_a_damaged_result_is_named_in_one_line(modules, tmp_path, capsys, change, message):
    path = modules.write(tmp_path, "short", SHORT[-1:], **change)
    arguments = ["report", "--results", str(tmp_path), "--out", str(tmp_path / "out")]
    assert modules.paper.main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path} ") and message in line
    assert not (tmp_path / "out").exists()


def test_no_results_and_a_folder_that_cant_be_written_are_errors(modules, tmp_path, capsys):
    arguments = ["report", "--results", str(tmp_path), "--out", str(tmp_path / "file" / "out")]
    assert modules.paper.main(arguments) == 1
    assert "has no results" in capsys.readouterr().err
    modules.write(tmp_path, "short", SHORT[-1:])
    (tmp_path / "file").touch()
    assert modules.paper.main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "can't be written" in line and "--out" in line


def test_masks_are_drawn_of_the_runs_that_are_there(modules, tmp_path, monkeypatch):
    path = modules.write(tmp_path / "results", "full", FULL, spec=json.loads(SPEC.to_json()))
    (found,) = modules.collect.collect(tmp_path / "results")
    some = found.tables[0].entries[0].results[-1]["name"]  # not the first of that Spec
    assert modules.masks.draw_masks(found, tmp_path, tmp_path) == ([], [])
    recipe = replace(RECIPE, epochs=1)
    run = new_run(tmp_path / "full" / some, recipe)
    train(recipe=recipe, run=run)
    rows = (run.path / "metrics.jsonl").read_text()
    (run.path / "metrics.jsonl").write_text("")
    drawn, left_out = modules.masks.draw_masks(found, tmp_path, tmp_path)
    assert drawn == [] and "0 of 1 epochs" in left_out[0]
    (run.path / "metrics.jsonl").write_text(rows)
    drawn, left_out = modules.masks.draw_masks(found, tmp_path, tmp_path)
    assert drawn == [] and len(left_out) == 1 and "'small' is unknown" in left_out[0]
    test = dataset(classes=3)
    monkeypatch.setattr(modules.masks, "load_dataset", lambda *_, **__: (test,))
    drawn, left_out = modules.masks.draw_masks(found, tmp_path, tmp_path)
    assert left_out == [] and len(drawn) == 1 and path.name not in str(drawn)
    with Image.open(drawn[0].path) as image:
        assert np.asarray(image.convert("RGB")).std() > 10
    assert "channel: L2" in drawn[0].caption and "3 test pictures" in drawn[0].alt


def test_the_readme_gets_a_table_an_experiment(modules, tmp_path):
    modules.write(tmp_path / "paper", "short", SHORT)
    begin, end = modules.readme_tables.marks("paper_short")
    new = modules.readme_tables.updated(f"above\n{begin}\nold\n{end}\n", tmp_path)
    assert "old" not in new and "**Not comparable with the published errors**" in new
    assert "| channel: L2 over the channels | 20.50 | 20.00 to 21.00 | 2 | 6.24 ? |" in new
    assert "| ResNet-56, 10 % noise | 30.00 |  | 1 |" in new
    assert "paper, trained in full, error % |" in new
    assert modules.readme_tables.updated("none", tmp_path / "elsewhere") == "none"


def test_another_data_set_has_no_published_errors(modules, tmp_path):
    modules.write(tmp_path, "smoke", SHORT[:1])
    (found,) = modules.collect.collect(tmp_path)
    assert [each.row.published for t in found.tables for each in t.entries] == [None]
