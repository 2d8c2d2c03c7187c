"""Measures training throughput: gluon_ran against GluonCV's network and its own plain form.

Each contender is a process of its own, since MXNet reads its engine variables once a process. All
stay alive and take turns, a few steps each, so that what else the machine does hits all alike; two
never run at once. A step is a forward pass with its loss on a fixed random batch, the backward
pass, and an NAG update with momentum and weight decay.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provenance import RESULTS, cpu_info, provenance, spread, write_json
from throughput_worker import ENGINE_VARIABLE

FORMS = {
    "gluoncv": "GluonCV's network, float32, static graph",
    "plain": "ours, float32, BilinearResize2D, hybridize()",
    "float32": "ours as gluon_ran trains it in float32",
    "bfloat16": "ours as gluon_ran trains it in bfloat16",
}
_IN_GLUONCV = {
    *(f"attention{depth}" for depth in (56, 92, 128, 164, 236, 452)),
    *(f"cifar_attention{depth}" for depth in (56, 92, 452)),
}


@dataclass(frozen=True)
class Contender:
    """A network in a form.

    Attributes:
        model: gluon_ran's name of the network.
        form: one of `FORMS`.
    """

    model: str
    form: str

    @property
    def network(self) -> str:
        """The name that the zoo it comes from has for it."""
        if self.form == "gluoncv":
            return self.model.replace("attention", "residualattentionnet")
        return self.model

    def obstacle(self) -> str | None:
        """Why it can't take part on this machine, or None."""
        flags = cpu_info().get("flags", "").split()
        if self.form == "bfloat16" and not {"avx512_bf16", "amx_bf16"} & set(flags):
            return "the CPU has neither avx512_bf16 nor amx_bf16"
        if self.form == "gluoncv" and self.model not in _IN_GLUONCV:
            return "GluonCV has no such network"
        return None


class Worker:
    """A contender's process, ready to train.

    Args:
        contender: what it trains.
        batch_size: pictures a step.
        warmup: steps before the first timing, which pay for memory and kernels.

    Attributes:
        description: what the process says of itself.

    Raises:
        RuntimeError: the process ended; its own message is on standard error.
    """

    def __init__(self, contender: Contender, batch_size: int, warmup: int) -> None:
        self._name = f"{contender.model} {contender.form}"
        script = Path(__file__).with_name("throughput_worker.py")
        command = [sys.executable, str(script), contender.network, contender.form]
        command += [f"--batch-size={batch_size}", f"--warmup={warmup}"]
        # GluonCV's training graph can't be built under gluon_ran's 1; 8 is MXNet's own default.
        environment = {**os.environ, ENGINE_VARIABLE: "8" if contender.form == "gluoncv" else "1"}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self.description = self._answer()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def run(self, steps: int) -> float:
        """Seconds that so many steps take.

        Raises:
            RuntimeError: the process ended.
        """
        with suppress(BrokenPipeError):  # then there is no answer either
            print(steps, file=self._process.stdin, flush=True)
        return self._answer()["seconds"]

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self._name} ended: see its message above")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process: first kindly."""
        try:
            self._process.communicate(timeout=30)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.communicate()


def measure(
    contenders: Sequence[Contender], batch_size: int, rounds: int, steps: int, warmup: int
) -> list[dict[str, Any]]:
    """Lets the contenders take turns.

    Args:
        contenders: who takes part.
        batch_size: pictures a step.
        rounds: turns of each contender.
        steps: steps of a turn.
        warmup: steps of each contender before the first turn.

    Returns:
        An entry a contender with its pictures a second, a value a turn.

    Raises:
        RuntimeError: a contender's process ended.
    """
    with ExitStack() as stack:
        workers = []
        for contender in contenders:
            _say(f"building {contender.model} {contender.form}")
            workers.append(stack.enter_context(Worker(contender, batch_size, warmup)))
        rates = [[] for _ in workers]
        for turn in range(rounds):
            _say(f"round {turn + 1} of {rounds}")
            # Each round starts with another one, so that none always follows the same.
            for offset in range(len(workers)):
                index = (turn + offset) % len(workers)
                rates[index].append(batch_size * steps / workers[index].run(steps))
    return [
        {
            "model": contender.model,
            "form": contender.form,
            "what": FORMS[contender.form],
            "network": contender.network,
            **worker.description,
            "images_per_second": spread(rate),
        }
        for contender, worker, rate in zip(contenders, workers, rates)
    ]


def add_ratios(results: list[dict[str, Any]]) -> None:
    """Adds to each entry the spread of its ratios to GluonCV in the same rounds, None without."""
    base = {r["model"]: r["images_per_second"] for r in results if r["form"] == "gluoncv"}
    for result in results:
        rates, others = result["images_per_second"], base.get(result["model"])
        pairs = zip(rates["values"], others["values"]) if others else ()
        ratios = [ours / theirs for ours, theirs in pairs]
        result["ratio_to_gluoncv"] = spread(ratios) if ratios else None


def table(results: Sequence[dict[str, Any]], skipped: Sequence[dict[str, str]]) -> str:
    """The results as lines of text."""
    row = "{:<24} {:<9} {:>9} {:>17} {:>9} {:>15}"
    lines = [row.format("model", "form", "images/s", "quartiles", "x GluonCV", "quartiles")]
    for result in results:
        cells = []
        for key, digits in (("images_per_second", 1), ("ratio_to_gluoncv", 2)):
            s = result[key]
            numbers = [f"{s[name]:.{digits}f}" for name in ("median", "q1", "q3")] if s else "---"
            cells += [numbers[0], f"{numbers[1]} to {numbers[2]}" if s else "-"]
        lines.append(row.format(result["model"], result["form"], *cells))
    lines += [f"skipped: {s['model']} {s['form']}: {s['reason']}" for s in skipped]
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--models", nargs="+", default=["cifar_attention56"], help="networks of gluon_ran's zoo")
    add("--forms", nargs="+", default=list(FORMS), choices=FORMS, help="what to measure of each")
    add("--batch-size", type=_positive, default=64, help="pictures a step")
    add("--rounds", type=_positive, default=10, help="turns of each contender")
    add("--steps", type=_positive, default=3, help="steps of a turn")
    add("--warmup", type=_positive, default=4, help="steps of each contender before the first turn")
    add("--out", type=Path, default=RESULTS / "training_throughput.json", help="the JSON to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints the table and writes the JSON."""
    arguments = _parser().parse_args(argv)
    origin = provenance(argv)
    asked = [Contender(model, form) for model in arguments.models for form in arguments.forms]
    skipped = [
        {"model": c.model, "form": c.form, "reason": c.obstacle()} for c in asked if c.obstacle()
    ]
    settings = {name: vars(arguments)[name] for name in ("batch_size", "rounds", "steps", "warmup")}
    try:
        results = measure([c for c in asked if not c.obstacle()], **settings)
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    add_ratios(results)
    what = "training throughput on the CPU, images a second"
    write_json(
        arguments.out,
        {"what": what, **origin, **settings, "results": results, "skipped": skipped},
    )
    machine = origin["machine"]
    print(f"{machine['cpu']}, {machine['usable_cores']} cores, {' '.join(machine['flags'])}")
    print(table(results, skipped))
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
