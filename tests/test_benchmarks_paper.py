"""benchmarks/paper.py: what its command lines list, choose and refuse."""

import pytest
from paper_trainings import finished, modules, run, started  # noqa: F401


def test_rows_and_seeds_can_be_chosen(run, tmp_path):
    flags = ("--rows", "noise: ResNet-56, (0|30) %", "--seeds", "3,4", "--budget", "smoke")
    assert run("label-noise", *flags) == 0
    names = [
        f"digits-cifar_preresnet56-{n}seed{s}" for s in (3, 4) for n in ("", "label_noise0.3-")
    ]
    assert started(tmp_path) == names


def test_list_names_every_experiment_and_what_is_done(modules, run, tmp_path, capsys):
    assert run("mask-structure", "--budget", "smoke") == 0
    assert modules[0].main(["list", "--results", str(tmp_path / "results")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("local convolutions" in line and "smoke 1/1" in line for line in lines)
    for name in modules[3].EXPERIMENTS:
        assert any(line.startswith(f"{name}:") for line in lines)


def test_list_names_a_result_that_is_damaged_and_counts_it_not(modules, run, tmp_path, capsys):
    flags = ("mask-structure", "--rows", "local", "--budget", "smoke")
    assert run(*flags) == 0
    (path,) = (tmp_path / "results" / "smoke").iterdir()
    path.write_bytes(path.read_bytes()[:-10])
    capsys.readouterr()
    assert modules[0].main(["list", "--results", str(tmp_path / "results")]) == 1
    out, err = capsys.readouterr()
    assert "smoke" not in out and err.startswith("error: ") and path.name in err
    assert len(err.splitlines()) == 1


def test_list_counts_each_precision(modules, run, tmp_path, capsys):
    flags = ("mask-structure", "--rows", "local", "--budget", "smoke", "--dtype", "bfloat16")
    assert run(*flags) == 0
    capsys.readouterr()
    assert modules[0].main(["list", "--results", str(tmp_path / "results")]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "smoke" in line]
    assert "local" in line and line.endswith("smoke in bfloat16 1/1")


def test_list_counts_the_budgets_seeds_and_others(modules, run, tmp_path, capsys):
    flags = ("mask-structure", "--rows", "local", "--budget", "smoke")
    for seeds, count in (("5", "1/2"), ("0", "2/2")):
        assert run(*flags, "--seeds", seeds) == 0
        capsys.readouterr()
        assert modules[0].main(["list", "--results", str(tmp_path / "results")]) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if "smoke" in line]
        assert line.endswith(f"smoke {count}")


@pytest.mark.parametrize(
    "flags, told",
    [(("--seeds", "1,1"), "different numbers"), (("--rows", "("), "regular expression")],
)
def test_flags_that_make_no_sense_are_refused(run, capsys, flags, told):
    with pytest.raises(SystemExit):
        run("learning", "--budget", "smoke", *flags)
    assert told in capsys.readouterr().err


def test_rows_that_are_not_there_and_no_jobs_are_refused(run, capsys):
    for flags, told in ((("--rows", "nothing"), "in no label"), (("--jobs", "0"), "at least 1")):
        assert run("learning", "--budget", "smoke", *flags) == 1
        assert told in capsys.readouterr().err


def test_help_tells_of_the_budgets(modules, capsys):
    with pytest.raises(SystemExit):
        modules[0].main(["run", "--help"])
    told = capsys.readouterr().out
    for name in modules[1].BUDGETS:
        assert f"  {name}: " in told
