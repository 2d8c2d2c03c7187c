"""Starts training by several workers, watches them, and restarts all where one fails.

python train/launch.py -n 2 -s 2 -- python train/cifar10_train.py --kvstore dist_sync ...
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from launch_processes import Processes
from launch_tasks import HERE, Task, horovod, parameter_server, read_hosts

# Exit codes of a run that was asked to stop, and did: behind Ctrl-C, and behind SIGTERM.
_STOPPED = {signal.SIGINT: 130, signal.SIGTERM: 75}
# Of errors that a restart would only repeat: a wrong command line, what train/cli.py says, and a
# command that can't be started.
_REPEATS = (2, 78, 126, 127)
# How long the others may take where a worker has stopped, and servers where all have ended.
_GRACE, _SERVERS_GRACE = 60.0, 10.0
# How long the others may take to end for the same reason, one of which may be its cause.
_CAUSE = 2.0
# A signal sent to all processes of a job may come twice, the second time through a parent.
_ECHO = 0.5


def make_parser() -> argparse.ArgumentParser:
    """The command line up to the `--`."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s -n WORKERS [-s SERVERS] [--hosts FILE] [--max-restarts K] -- COMMAND ...",
        epilog="The command is the same for all workers, and goes on from the last checkpoint "
        "where it is started again.",
    )
    parser.add_argument("-n", "--workers", type=_count(1), required=True, metavar="WORKERS",
                        help="processes that train")  # fmt: skip
    parser.add_argument(
        "-s", "--servers", type=_count(0), default=1, metavar="SERVERS",
        help="processes that add the gradients up, for --kvstore dist_sync; 0 for --kvstore "
        "horovod, which has none (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--hosts", type=Path, metavar="FILE",
        help="machines to start them on over ssh, one a line, NAME or NAME:SLOTS for several "
        "workers in a row; the first has the scheduler (default: all on this machine)",
    )  # fmt: skip
    parser.add_argument(
        "--max-restarts", type=_count(0), default=3, metavar="K",
        help="how often all are started again where a process fails (default: 3)",
    )  # fmt: skip
    return parser


def _count(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least}")
        return int(text)

    return parse


class _Failure(NamedTuple):
    name: str
    code: int


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    parser, command = make_parser(), argv[cut + 1 :]
    args = parser.parse_args(argv[:cut])
    if not command:
        parser.error("give the command that the workers run, behind --")
    try:
        if args.hosts and not args.hosts.is_file():
            raise ValueError(f"there is no file of hosts at {args.hosts}")
        hosts = read_hosts(args.hosts) if args.hosts else [HERE]
        with _signals() as events:
            servers = (args.servers,) if args.servers else ()
            engine = parameter_server if servers else horovod
            group = partial(engine, args.workers, *servers, hosts, command)
            return _launch(group, args.max_restarts, events)
    except (ValueError, OSError) as error:
        _say(f"error: {error}")
        return 1


def _launch(group: Callable, max_restarts: int, events: queue.SimpleQueue) -> int:
    try:
        return _attempts(group, max_restarts, events)
    finally:
        _let_go_of_output()


def _let_go_of_output() -> None:
    """Drops lines that nobody takes, or Python tries them at its end and exits with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


def _attempts(group: Callable, max_restarts: int, events: queue.SimpleQueue) -> int:
    for attempt in range(max_restarts + 1):
        with group() as tasks:
            outcome = _run(tasks, events)
        if isinstance(outcome, int):
            return outcome
        how = f"code {outcome.code}"
        if 128 < outcome.code <= 128 + max(signal.valid_signals()):
            how += f" (signal {outcome.code - 128})"
        _say(f"{outcome.name} ended with {how}, and all others were ended")
        if outcome.code in _REPEATS:
            break
        if not events.empty():
            return _STOPPED[events.get()]
        if attempt < max_restarts:
            _say(f"starting all again from the last checkpoint: {attempt + 1} of at most "
                 f"{max_restarts} restarts")  # fmt: skip
    return outcome.code


def _run(tasks: list[Task], events: queue.SimpleQueue) -> int | _Failure:
    """Runs a group to its end: an exit code, or the process that failed."""
    workers = [task.name for task in tasks if task.name.startswith("worker")]
    processes = Processes(tasks, queue.SimpleQueue())
    try:
        return _watch(processes, workers, events)
    finally:
        processes.end()


def _watch(processes: Processes, workers: list[str], events: queue.SimpleQueue) -> int | _Failure:
    left, codes, asked, came, deadline = set(workers), set(), None, 0.0, None
    while left and (deadline is None or time.monotonic() < deadline):
        processes.beat()
        if not events.empty():
            number = events.get()
            if asked == number and time.monotonic() - came < _ECHO:
                continue
            if asked is not None:
                _say("ending all at once; what was saved before is whole")
                break
            asked, came = number, time.monotonic()
            _say("asking the workers to stop behind their step; once more ends them at once")
            processes.signal(number, workers)
        try:
            name, code = processes.ended.get(timeout=0.1)
        except queue.Empty:
            continue
        if name in left and code in (0, *_STOPPED.values()):
            left.remove(name)
            codes.add(code)
            if code and deadline is None:
                deadline = time.monotonic() + _GRACE
        elif code and asked is None:
            return _cause(_Failure(name, code), processes)
        elif code:
            _say(f"{name} ended with code {code} before it had stopped; what was saved is whole")
            break
    if not left:
        _wait_for_servers(processes)
        return max(codes)
    return _STOPPED[asked] if asked is not None else max(codes)


def _cause(first: _Failure, processes: Processes) -> _Failure:
    """The failure that others follow from: what the first worker met ends all at one moment."""
    failure, deadline = first, time.monotonic() + _CAUSE
    while failure.code not in _REPEATS and (processes.running() or not processes.ended.empty()):
        try:
            failure = _Failure(*processes.ended.get(timeout=max(deadline - time.monotonic(), 0)))
        except queue.Empty:
            return first
    return failure if failure.code in _REPEATS else first


def _wait_for_servers(processes: Processes) -> None:
    deadline = time.monotonic() + _SERVERS_GRACE
    while processes.running() and time.monotonic() < deadline:
        time.sleep(0.05)


@contextmanager
def _signals() -> Iterator[queue.SimpleQueue]:
    """Signals to the launcher, as they come; a lost terminal counts as SIGTERM."""
    events: queue.SimpleQueue = queue.SimpleQueue()
    asks = {
        signal.SIGINT: signal.SIGINT,
        signal.SIGTERM: signal.SIGTERM,
        signal.SIGHUP: signal.SIGTERM,
    }
    before = {each: signal.getsignal(each) for each in asks}
    # What is ignored stays so: nohup's hang-up, Ctrl-C in the background of a shell.
    before = {each: handler for each, handler in before.items() if handler is not signal.SIG_IGN}
    for each in before:
        signal.signal(each, lambda *_, meaning=asks[each]: events.put(meaning))
    try:
        yield events
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _say(text: str) -> None:
    with suppress(OSError):  # a terminal that is gone, a reader that ended: the workers go on
        print(f"launch: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
