"""The paper's experiments by one command: trains what is not yet trained, and reports.

    python benchmarks/paper.py list
    python benchmarks/paper.py run attention-type --budget short --jobs 2
    python benchmarks/paper.py report

A run that was stopped goes on where it was, and one whose result is there is not trained again.
What a budget leaves out is part of each result.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from paper_experiments import EXPERIMENTS
from paper_plan import BUDGETS, Planned, plan
from paper_runs import RESULT_FOLDER, Stopped, Trainer, is_done, say
from provenance import RESULTS

from gluon_ran.training.recipe import DTYPES


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="task", required=True, metavar="COMMAND")
    listed = commands.add_parser("list", help="the experiments, and how much of them is done")
    listed.set_defaults(act=show_list)
    run = commands.add_parser(
        "run", help="train what is not yet trained", epilog=budget_table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    run.set_defaults(act=run_experiments)
    run.add_argument(
        "experiments", nargs="+", choices=[*EXPERIMENTS, "all"], metavar="EXPERIMENT",
        help=", ".join(EXPERIMENTS) + ", or all",
    )  # fmt: skip
    run.add_argument("--budget", choices=list(BUDGETS), required=True, help="see below")
    run.add_argument(
        "--rows", type=_pattern, metavar="REGEX",
        help="only rows whose label, behind 'EXPERIMENT: ', this is found in (default: all)",
    )  # fmt: skip
    run.add_argument(
        "--seeds", type=_seeds, metavar="N,...", help="one run each (default: the budget's)"
    )
    run.add_argument("--dtype", choices=DTYPES, help="default: the budget's")
    run.add_argument("--jobs", type=int, default=1, metavar="N",
                     help="trainings at a time, which share the cores (default: 1)")  # fmt: skip
    run.add_argument("--threads", type=int, metavar="N",
                     help="of each training (default: the cores over --jobs)")  # fmt: skip
    run.add_argument(
        "--data-dir", metavar="DIR", help="the training scripts' --data-dir (default: a download)"
    )
    run.add_argument(
        "--data",
        default="",
        metavar="TEXT",
        help="what is particular about the data: kept beside it",
    )
    run.add_argument(
        "--num-gpus", type=int, choices=(0, 1), help="the training scripts' --num-gpus; more would "
        "multiply the batch"
    )  # fmt: skip
    run.add_argument(
        "--runs", type=Path, default=Path("runs/paper"), metavar="DIR",
        help="where the run directories go (default: runs/paper)",
    )  # fmt: skip
    report = commands.add_parser("report", help="the results as one HTML page, with figures")
    report.set_defaults(act=make_report)
    report.add_argument(
        "--runs", type=Path, default=Path("runs/paper"), metavar="DIR",
        help="run directories, for masks (default: runs/paper)",
    )  # fmt: skip
    report.add_argument(
        "--out", type=Path, default=Path("report"), metavar="DIR",
        help="folder of report.html and its figures (default: report)",
    )  # fmt: skip
    for each in (listed, run, report):
        each.add_argument(
            "--results", type=Path, default=RESULTS / RESULT_FOLDER, metavar="DIR",
            help=f"folder of the results (default: benchmarks/results/{RESULT_FOLDER})",
        )  # fmt: skip
    return parser


def _pattern(text: str) -> re.Pattern:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def _seeds(text: str) -> tuple[int, ...]:
    seeds = tuple(int(part) for part in text.split(",") if part.strip().isdigit())
    if not seeds or len(seeds) != len(text.split(",")) or len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"{text!r}: give different numbers from 0, as in 0,1,2")
    return seeds


def budget_table() -> str:
    """The budgets, for the end of --help."""
    lines = [f"  {budget.name}: {budget.text}" for budget in BUDGETS.values()]
    return "\n".join(["budgets:", *lines])


def show_list(args: argparse.Namespace) -> int:
    """Prints each experiment with its rows, and which budgets each row has results of."""
    seeds = {budget.name: _seeds_there(args.results / budget.name) for budget in BUDGETS.values()}
    unfit: dict[str, None] = {}
    for experiment in EXPERIMENTS.values():
        print(f"{experiment.name}: {experiment.title} ({experiment.source})")
        for row in experiment.rows:
            done = []
            for budget in BUDGETS.values():
                taken = set()
                for dtype in (None, *DTYPES):
                    known = sorted({*budget.seeds, *seeds[budget.name]})
                    runs = plan([experiment], budget, known, dtype, [row])
                    there = [each for each in runs if _is_there(each, args.results, unfit)]
                    asked = {*budget.seeds, *(each.recipe.seed for each in there)}
                    name = budget.name + (f" in {dtype}" if dtype else "")
                    names = {each.name for each in there}
                    done += [f"{name} {len(there)}/{len(asked)}"] if names - taken else []
                    taken |= names
            paper = row.published
            error = f"{paper.error:g} % {paper.origin}" if paper else "-"
            print(f"  {row.label:<42} {error:<20} {', '.join(done)}".rstrip())
    for problem in unfit:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if unfit else 0


def _is_there(planned: Planned, results: Path, unfit: dict[str, None]) -> bool:
    """Whether a result is there; why it is of no use goes to `unfit`."""
    try:
        return is_done(planned, results)
    except ValueError as error:
        unfit[str(error)] = None
        return False


def _seeds_there(folder: Path) -> set[int]:
    """The seeds of the results in a folder."""
    found = (re.search(r"-seed(\d+)$", path.stem) for path in folder.glob("[!.]*.json"))
    return {int(match[1]) for match in found if match}


def selected(args: argparse.Namespace) -> list[Planned]:
    """The runs that the flags ask for.

    Raises:
        ValueError: there is none.
    """
    names = list(EXPERIMENTS) if "all" in args.experiments else args.experiments
    chosen = [EXPERIMENTS[name] for name in dict.fromkeys(names)]
    only = [
        row
        for experiment in chosen
        for row in experiment.rows
        if args.rows is None or args.rows.search(f"{experiment.name}: {row.label}")
    ]
    runs = plan(chosen, BUDGETS[args.budget], args.seeds, args.dtype, only)
    if not runs:
        raise ValueError(
            f"--rows {args.rows.pattern!r} is in no label; see benchmarks/paper.py list"
        )
    return runs


def run_experiments(args: argparse.Namespace) -> int:
    """Trains what is not yet trained; the exit code."""
    for name in ("jobs", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} {value}: give at least 1")
    trainer = Trainer(args, selected(args))

    def stop(number: int, frame: FrameType | None) -> None:
        trainer.stop(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        return trainer.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def make_report(args: argparse.Namespace) -> int:
    """Writes the page; the exit code."""
    from paper_report import write_report

    print(f"written: {write_report(args.results, args.runs, args.out)}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    args = make_parser().parse_args(argv)
    args.argv = argv
    try:
        return args.act(args)
    except Stopped as stopped:
        say("stopped; the same command goes on from there", sys.stderr)
        return stopped.code
    except (ValueError, OSError, RuntimeError) as error:
        say(f"error: {error}", sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
