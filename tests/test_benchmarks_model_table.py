import json
from pathlib import Path

import pytest
from benchmark_modules import imported

from gluon_ran.models import SPECS, list_baselines, list_models

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def model_table(monkeypatch):
    with imported(monkeypatch, "model_table") as (module,):
        yield module


def test_the_readme_has_the_table_of_today(model_table, capsys):
    """If this fails, run `python benchmarks/model_table.py`."""
    assert model_table.main(["--check"]) == 0
    assert capsys.readouterr().out == "up to date\n"


def test_every_network_has_a_row(model_table):
    rows = model_table.table(["attention56", "cifar_resnet20_v1"], {}).splitlines()
    assert len(rows) == 4
    assert "| 224x224 | 31.81 M | 6.271 G | 31.9 M, 6.2 G | ImageNet 21.76 / 5.9 |" in rows[2]
    assert rows[3].startswith("| `cifar_resnet20_v1` | 32x32 | 0.27 M |")
    assert set(model_table.REPORTED) <= {*list_models(), *list_baselines()}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in [*list_models(), *list_baselines()]:
        assert readme.count(f"| `{name}` |") >= 1


def test_our_errors_are_the_last_epochs(model_table, tmp_path):
    name = "cifar_attention56_thin"
    run = {"model": name, "data": "", "dataset": "digits", "recipe": {"epochs": 3}}
    start = {"weights": None, "freeze": None}
    spec = json.loads(SPECS[name].to_json())
    result = {**run, "spec": spec, "start": start, "final_top1": 0.9, "best_top1": 0.95}
    (tmp_path / "run.json").write_text(json.dumps(result))
    changed = {**result, "spec": {**spec, "attention": "spatial"}, "final_top1": 0.5}
    (tmp_path / "spatial.json").write_text(json.dumps(changed))
    tuned = {**result, "start": {"weights": "w", "freeze": 1}, "final_top1": 0.99}
    (tmp_path / "tuned.json").write_text(json.dumps(tuned))
    (tmp_path / "speed.json").write_text("{}")
    none = tmp_path / "none"
    assert model_table.our_errors(tmp_path, none) == {name: ["digits, 3 epochs: 10.00"]}

    folder = tmp_path / "weights"
    folder.mkdir()
    trained = {**run, "start": start, "recipe": {"epochs": 9}, "measured": {"top1": 0.92}}
    card = {"spec": {**spec, "zero_init": True}, "training": trained}
    (folder / f"{name}.json").write_text(json.dumps(card))
    both = ["digits, 9 epochs: 8.00", "digits, 3 epochs: 10.00"]
    assert model_table.our_errors(tmp_path, folder) == {name: both}


def test_only_what_lies_between_the_marks_is_written(model_table, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(model_table, "list_models", lambda: ["cifar_attention56_thin"])
    monkeypatch.setattr(model_table, "list_baselines", lambda: [])
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{model_table.BEGIN}\nold\n{model_table.END}\nbelow\n")
    assert model_table.main(["--readme", str(readme), "--check"]) == 1
    assert "old" in readme.read_text()
    assert model_table.main(["--readme", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith("above\n") and text.endswith("\nbelow\n") and "old" not in text
    assert model_table.main(["--readme", str(readme), "--check"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize("text", ["", "BEGIN", "END BEGIN", "BEGIN END BEGIN END"])
def test_a_readme_without_a_place_is_left_alone(model_table, tmp_path, capsys, text):
    readme = tmp_path / "README.md"
    text = text.replace("BEGIN", model_table.BEGIN).replace("END", model_table.END)
    readme.write_text(text)
    assert model_table.main(["--readme", str(readme)]) == 1
    assert "no place for the table" in capsys.readouterr().err
    assert readme.read_text() == text
