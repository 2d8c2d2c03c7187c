"""The command line of every training script: they differ in their usual data set alone."""

from __future__ import annotations

import argparse
import errno
import os
import signal
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from ends import ERRORS, INTERRUPTED, TERMINATED, Terminated, error_text, termination_raises
from flags import (
    STREAM,
    add_hold_out,
    add_picture_flags,
    add_recipe_flags,
    add_spec_flags,
    add_test_size,
    network_name,
    recipe_from,
    recipe_table,
    usual_recipe,
    warn_of_rates,
)
from logs import console, log_to_file, quiet
from make_run import check_unchanged
from shared_run import make_shared_run
from sources import InMemory, Streamed

import gluon_ran
from gluon_ran import training
from gluon_ran.data import DATASETS, OWN
from gluon_ran.models import build
from gluon_ran.models.specs import DEPTHS
from gluon_ran.training import KVSTORES, Group, RunDirectory, Trained
from gluon_ran.training.monitor import LOG
from gluon_ran.training.run import RunLocked

import mxnet as mx
from mxnet.gluon import HybridBlock

# Exit code of a worker's error that a restart would only repeat (EX_CONFIG): train/launch.py makes
# none then.
REPEATS = 78
_FULL = {errno.ENOSPC, errno.EDQUOT}
# Of a path that is wrong, or not ours to write to.
_WRONG_PATH = {
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
    errno.EACCES, errno.EPERM, errno.EROFS,
}  # fmt: skip


def make_parser(description: str, dataset: str | None) -> argparse.ArgumentParser:
    """The command line; what it leaves out comes from the recipe.

    Args:
        description: the script's.
        dataset: the data set without --dataset; None: pictures of one's own, by what is there.
    """
    parser = argparse.ArgumentParser(
        description=description,
        epilog=recipe_table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(usual_dataset=dataset)
    group = parser.add_argument_group("what to train, and on what")
    _add_data(group, dataset)
    add_picture_flags(group, "the model's, 32 or 224")
    add_test_size(group)
    add_hold_out(group)
    _add_model(group)
    add_spec_flags(group)
    usual = usual_recipe(dataset)
    title = f"recipe (defaults: those of the recipe '{usual.name}')"
    add_recipe_flags(parser.add_argument_group(title), usual)
    _add_run(parser.add_argument_group("run and machine"))
    return parser


def _add_data(group: argparse._ArgumentGroup, dataset: str | None) -> None:
    own = dataset in (None, STREAM)
    usual = dataset or "what --data-dir holds"
    group.add_argument(
        "--dataset", choices=(*(OWN if own else DATASETS), STREAM),
        help="folder of class folders, or RecordIO records, in memory; or a stream of RecordIO "
        f"records of any number (default: {usual})" if own
        else "digits comes with scikit-learn and needs no download; folder, records and stream are "
        f"pictures of your own (default: {usual})",
    )  # fmt: skip
    group.add_argument(
        "--data-dir", metavar="DIR",
        help="folder of class folders, or of NAME_train.rec and NAME_test.rec (no default: needed, "
        "unless --resume names a run)" if own
        else "folder of the official archive, of its files, or of NAME_train.rec and NAME_test.rec "
        "(default: a download, kept under MXNet's data folder)",
    )  # fmt: skip


def _add_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--num-layers", type=int, choices=DEPTHS,
        help="depth of the wide network cifar_attentionN, or attentionN on a stream (default: 56)",
    )  # fmt: skip
    group.add_argument(
        "--model", metavar="NAME", type=network_name,
        help="any network of the zoo, as cifar_attention56_thin, or of GluonCV's, as "
        "cifar_resnet56_v2 (default: that of --weights where they tell, else of --num-layers)",
    )  # fmt: skip
    group.add_argument(
        "--weights", metavar="RUN_OR_FILE", type=Path,
        help="start from trained weights: a run directory (its best checkpoint), a .params file, "
        "or a name of weights that are there; the classifier is made anew where the number of "
        "classes differs. Where a run or the card beside a file tells the network and how its "
        "pictures are normalised, these are taken over (default: from scratch)",
    )  # fmt: skip
    group.add_argument(
        "--freeze", type=_count, metavar="N",
        help="keep the stem and the first N stages of --weights as they are (default: train all)",
    )  # fmt: skip
    group.add_argument(
        "--zero-init", action="store_true", default=None,
        help="start each residual unit as the identity (default: off)",
    )  # fmt: skip


def _add_run(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--save-dir", metavar="DIR", type=Path,
        help="run directory (default: runs/DATASET-MODEL, with the recipe's name, mixup and other "
        "changes)",
    )  # fmt: skip
    group.add_argument(
        "--resume", metavar="RUN", nargs="?", const="", default=None,
        help="with RUN: go on with that run, by its own network, data and recipe (not its flags of "
        "this group); without: go on with the run of the other flags, and refuse to start anew",
    )  # fmt: skip
    group.add_argument(
        "--log-dir", metavar="DIR", type=Path,
        help="where the TensorBoard events and train.log go (default: RUN/events and RUN)",
    )  # fmt: skip
    group.add_argument(
        "--test-period", type=_count_from_one, default=1, metavar="EPOCHS",
        help="score on the test behind every so many epochs and the last one; the best weights are "
        "the best of those (default: 1)",
    )  # fmt: skip
    group.add_argument(
        "--mask-period", type=_count, default=0, metavar="EPOCHS",
        help="have the TensorBoard events show the soft masks over four test pictures, behind "
        "every so many epochs and the last one; 0: never (default: 0)",
    )  # fmt: skip
    group.add_argument(
        "--save-period", type=_count, default=10, metavar="EPOCHS",
        help="keep the weights of every so many epochs, besides last and best; 0: none "
        "(default: 10)",
    )  # fmt: skip
    group.add_argument(
        "--save-every", type=_count, default=0, metavar="STEPS",
        help="save behind every so many steps of an epoch too; 0: behind epochs alone (default: 0)",
    )  # fmt: skip
    group.add_argument(
        "--keep-last", type=_count_from_one, default=2, metavar="K",
        help="checkpoints to keep; one that is damaged gives way to the one before (default: 2)",
    )  # fmt: skip
    group.add_argument(
        "--max-skips", type=_count, default=10, metavar="K",
        help="a step whose loss or gradients are not finite leaves the network as it was; training "
        "has diverged where more than K in a row are (default: 10)",
    )  # fmt: skip
    group.add_argument(
        "--on-divergence", choices=("stop", "step-back"), default="stop",
        help="step-back goes back to the last checkpoint with half the learning rate, up to five "
        "times (default: stop)",
    )  # fmt: skip
    group.add_argument(
        "-j", "--workers", type=_count, default=4, metavar="N",
        help="batches made ahead in the background; 0 makes them in turn (default: 4)",
    )  # fmt: skip
    group.add_argument(
        "--recompute", action="store_true",
        help="train in less memory, somewhat slower, to the same numbers: norms, ReLUs and 1x1 "
        "convolutions are computed again for the backward pass; for CPUs (default: off)",
    )  # fmt: skip
    group.add_argument(
        "--num-gpus", type=int, metavar="N",
        help="GPUs to use, 0 for the CPU (default: 1 where MXNet sees one, else 0)",
    )  # fmt: skip
    group.add_argument(
        "--kvstore", type=_kvstore, default="device", metavar="{" + ",".join(KVSTORES) + "}",
        help="what sums the gradients: of several GPUs local, device or nccl; of processes that "
        "train/launch.py starts dist_sync or horovod (default: device)",
    )  # fmt: skip


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return int(text)


def _count_from_one(text: str) -> int:
    if not _count(text):
        raise argparse.ArgumentTypeError("give a number from 1")
    return int(text)


def _kvstore(text: str) -> str:
    try:
        training.check_kvstore(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def train(args: argparse.Namespace) -> int:
    """Trains as the flags say; the exit code."""
    contexts, group = training.make_contexts(args.num_gpus), training.join(args.kvstore)
    if group.rank:
        quiet()
    if not args.resume:
        asked = recipe_from(args)
        training.check_dtype(asked.dtype, contexts)
    run, source, trained = make_shared_run(args, len(contexts), group)
    with ExitStack() as stack:
        if not group.rank:
            # In the log of a run nothing belongs of a process that may not write to it.
            stack.enter_context(run.writing())
            log_to_file((args.log_dir or run.path) / "train.log")
            if not args.resume:
                warn_of_rates(args, asked)
        return _train(args, run, source, trained, contexts, group)


def _train(
    args: argparse.Namespace,
    run: RunDirectory,
    source: InMemory | Streamed,
    trained: Trained | None,
    contexts: list[mx.Context],
    group: Group,
) -> int:
    recipe, normalization = run.recipe, run.normalization
    where = ", ".join(map(str, contexts)) + f" of {group.count} workers" * (group.count > 1)
    LOG.info("%s on %s, %s, %s", run.spec.name, run.data["dataset"], recipe.dtype, where)
    source.log()
    if recipe.label_noise:
        LOG.info("label noise: each training label is wrong with probability %g",
                 recipe.label_noise)  # fmt: skip
    LOG.info("run directory %s", run.path)
    net = build(run.spec)
    _start_from_weights(net, run, trained, contexts)
    history = training.fit(
        net,
        recipe,
        partial(source.training_batches, recipe, normalization, len(contexts), group),
        source.test_batches(normalization, group),
        classes=run.spec.classes,
        run=run,
        contexts=contexts,
        kvstore=args.kvstore,
        workers=args.workers,
        recompute=args.recompute,
        save_period=args.save_period,
        save_every=args.save_every,
        keep_last=args.keep_last,
        max_skips=args.max_skips,
        step_back=args.on_divergence == "step-back",
        log_dir=args.log_dir,
        validation_period=args.test_period,
        mask_period=args.mask_period,
    )
    return _report(run, history, group)


def _start_from_weights(
    net: HybridBlock, run: RunDirectory, trained: Trained | None, contexts: list[mx.Context]
) -> None:
    """Loads trained weights into a run that begins, and freezes what the run keeps frozen."""
    if trained is not None and not run.has_checkpoint():
        check_unchanged(run, trained)
        mx.random.seed(run.recipe.seed)  # for the new classifier
        new = gluon_ran.load_weights(net, trained.weights, contexts, new_head=True)
        made = f"made anew: {', '.join(new)}" if new else "the classifier with them"
        LOG.info("weights from %s; %s", trained.weights, made)
        theirs = () if trained.card is None else trained.card.class_names
        if not new and theirs and theirs != tuple(run.data["class_names"]):
            LOG.warning("the classifier was trained for as many other classes: %s",
                        ", ".join(theirs))  # fmt: skip
    if run.data.get("freeze") is not None:
        net.freeze(run.data["freeze"])
        parameters = [p for p in net.collect_params().values() if p._differentiable]
        free = sum(p.grad_req != "null" for p in parameters)
        LOG.info("frozen: the stem and %d stages; %d of %d arrays of weights train",
                 run.data["freeze"], free, len(parameters))  # fmt: skip


def _report(run: RunDirectory, history: training.History, group: Group) -> int:
    rows = [] if group.rank else run.metrics()
    scored = [row for row in rows if row["val_top1"] is not None]
    if history.best_top1 is not None and scored:
        last = scored[-1]
        what = "test" if run.data.get("hold_out") is None else "held-out"
        LOG.info("%s accuracy %.2f %% after epoch %d; best %.2f %% after epoch %d",
                 what, 100 * last["val_top1"], last["epoch"] + 1,
                 100 * history.best_top1, history.best_epoch + 1)  # fmt: skip
    if history.completed and not history.epochs:
        LOG.info("the run was complete already; to train on from it, start another one with "
                 "--weights %s", run.path)  # fmt: skip
        return 0
    if history.completed:
        LOG.info("done; everything is in %s", run.path)
        return 0
    LOG.info("the same command goes on from there")
    return TERMINATED if history.stopped_by == signal.SIGTERM else INTERRUPTED


def main(parser: argparse.ArgumentParser, argv: list[str] | None) -> int:
    """Runs the command line; the exit code."""
    args = parser.parse_args(argv)
    # While pictures are read and the run is made; `fit` takes signals itself.
    with console(), termination_raises():
        try:
            return train(args)
        except KeyboardInterrupt as interrupt:
            LOG.info("interrupted; what was saved before is whole")
            code = TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED
            training.end_with(code)
            return code
        except ERRORS as error:
            LOG.debug("where the error came from", exc_info=True)
            LOG.error("error: %s%s", error_text(error), _advice(error))
            code = REPEATS if "GLUON_RAN_RANK" in os.environ and _repeats(error) else 1
            training.end_with(code)
            return code


def _repeats(error: Exception) -> bool:
    """Whether the same command would fail again, at the same place."""
    of_disk = getattr(error, "errno", None) in _FULL | _WRONG_PATH
    kinds = (ValueError, ArithmeticError, ImportError, training.CheckpointError, training.RunError)
    return of_disk or (isinstance(error, kinds) and not isinstance(error, RunLocked))


def _advice(error: Exception) -> str:
    """What to do about an error that does not say it itself."""
    if getattr(error, "errno", None) in _FULL:
        return ": make room there; the same command goes on from the last checkpoint"
    return ""
