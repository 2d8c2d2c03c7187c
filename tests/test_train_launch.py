"""The launcher with small commands in place of training."""

import os
import queue
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec

import pytest
from scripts import ROOT, script

# A launcher of one worker, the code that is its argument.
BLOCKED = """
from contextlib import contextmanager
from launch import _launch, _signals
from launch_tasks import HERE, Task
@contextmanager
def group():
    yield [Task("worker 0", HERE, [sys.executable, "-c", sys.argv[1]], {})]
with _signals() as events:
    sys.exit(_launch(group, 0, events))
"""
FOREVER = "import time; print('here', flush=True); time.sleep(600)"


def task(name, code, host=None, **environment):
    tasks = script("launch_tasks")
    return tasks.Task(name, host or tasks.HERE, [sys.executable, "-c", code], environment)


def launched(*codes, restarts=0, events=None, host=None):
    """Runs a group of workers, each a line of Python; the exit code."""

    @contextmanager
    def group():
        yield [task(f"worker {i}", code, host, RANK=str(i)) for i, code in enumerate(codes)]

    return script("launch")._launch(group, restarts, events or queue.SimpleQueue())


def ended(pid, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_lines_come_whole_with_the_name_of_their_process(capfd):
    code = (
        "import sys\nfor i in range(200): print('x' * 50, flush=i % 7 == 0)\n"
        "print('no end of line', end='')\nprint('\\xe9rror', file=sys.stderr)"
    )
    assert launched(code, code) == 0
    shown = capfd.readouterr()
    for name in ("worker 0", "worker 1"):
        lines = [line for line in shown.out.splitlines() if line.startswith(name)]
        assert lines == [f"{name} | {'x' * 50}"] * 200 + [f"{name} | no end of line"]
        assert f"{name} | \xe9rror\n" in shown.err


def test_a_failure_ends_all_and_starts_them_again_until_restarts_are_spent(
    tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(script("launch"), "_CAUSE", 0.1)
    note = f"import os; open({str(tmp_path / 'pids')!r}, 'a').write(str(os.getpid()) + '\\n'); "
    fail = note + "import sys, time; time.sleep(0.5); sys.exit(3)"
    assert launched(note + FOREVER, fail, restarts=2) == 3
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 6 and all(ended(pid) for pid in pids)
    error = capfd.readouterr().err
    assert error.count("launch: worker 1 ended with code 3, and all others were ended") == 3
    assert "1 of at most 2 restarts" in error and "2 of at most 2 restarts" in error


def test_a_group_that_is_well_after_a_restart_ends_well(tmp_path, capfd):
    marker = str(tmp_path / "marker")
    code = (
        f"import os, signal\nif os.environ['RANK'] == '1' and not os.path.exists({marker!r}):\n"
        f"    open({marker!r}, 'w').close(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert launched(code, code, restarts=1) == 0
    assert "worker 1 ended with code 137 (signal 9)" in capfd.readouterr().err


@pytest.mark.parametrize("code", [2, 78, 127])
def test_what_would_only_fail_again_is_not_tried_again(code, capfd):
    assert launched(f"import sys; sys.exit({code})", restarts=3) == code
    shown = capfd.readouterr().err
    assert "starting all again" not in shown and "signal" not in shown


def test_a_failure_that_follows_from_another_does_not_hide_it(capfd):
    """Worker 0 tells the others of its error, and they may end before it does."""
    cause = "import sys, time; time.sleep(0.5); sys.exit(78)"
    assert launched(cause, "import sys; sys.exit(1)", FOREVER, restarts=3) == 78
    shown = capfd.readouterr().err
    assert "worker 0 ended with code 78" in shown and "starting all again" not in shown


class WhenThere(queue.SimpleQueue):
    """A queue whose one item comes once some files are there."""

    def __init__(self, item, paths):
        self.items, self.paths = [item], paths

    def empty(self):
        return not self.items or not all(path.exists() for path in self.paths)

    def get(self):
        return self.items.pop()


def test_a_signal_that_all_processes_got_is_no_failure(tmp_path, capfd):
    """A batch system signals the whole tree, and the launcher passes it on once more."""
    ready = [tmp_path / "0", tmp_path / "1"]
    twice = (
        f"folder = {str(tmp_path)!r}\n"
        + """
import os, signal, sys, time
from gluon_ran.training.interrupt import StopRequest
os.environ["GLUON_RAN_RANK"] = "0"
with StopRequest() as stop:
    os.kill(os.getppid(), signal.SIGTERM)  # the watcher
    os.kill(os.getpid(), signal.SIGTERM)
    open(os.path.join(folder, os.environ["RANK"]), "w").close()
    time.sleep(1.5)
    sys.exit(75 if stop.requested else 1)
"""
    )
    events = WhenThere(signal.SIGTERM, ready)
    assert launched(twice, twice, restarts=2, events=events) == 75
    assert "ended with code" not in capfd.readouterr().err


def test_signals_go_on_where_nobody_reads_the_lines(tmp_path):
    noisy = f"import os; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
    noisy += "while True: print('x' * 1000, flush=True)"
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'train')!r})\n{BLOCKED}"
    with subprocess.Popen(
        [sys.executable, "-c", code, noisy], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.05)
        time.sleep(1)
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            time.sleep(1)
        assert ended((tmp_path / "pid").read_text())
        process.kill()


@pytest.mark.parametrize(
    "connect, number, code", [(os.pipe, signal.SIGINT, 130), (os.openpty, signal.SIGHUP, 75)]
)
def test_workers_stop_in_order_where_the_lines_can_no_longer_be_shown(
    tmp_path, connect, number, code
):
    """Ctrl-C ends `tee` too, and a lost terminal takes no line any more."""
    saves = f"""
import signal, sys, time
def save(number, _):
    time.sleep(0.3)  # lines that nobody takes come meanwhile
    print("x" * 100_000, flush=True)
    open({str(tmp_path / "saved")!r}, "w").close()
    sys.exit({{2: 130, 15: 75}}[number])
signal.signal(signal.SIGINT, save)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
while True:
    print("line", file=sys.stderr, flush=True)
    time.sleep(0.05)
"""
    read, write = connect()
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'train')!r})\n{BLOCKED}"
    # Else Python would have no lines left to write at its end.
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-c", program, saves], stdout=write, stderr=write, env=buffered
    ) as it:
        os.close(write)
        while b"ready" not in os.read(read, 1 << 16):
            pass
        os.close(read)
        it.send_signal(number)
        try:
            assert it.wait(60) == code
        finally:
            it.kill()
    assert (tmp_path / "saved").exists()


def test_a_command_that_is_not_there_is_told(capfd):
    @contextmanager
    def group():
        tasks = script("launch_tasks")
        yield [tasks.Task("worker 0", tasks.HERE, ["no-such-command"], {})]

    assert script("launch")._launch(group, 0, queue.SimpleQueue()) == 127
    assert "no-such-command can't be started" in capfd.readouterr().err


STOPS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
print("ready", flush=True)
time.sleep(600)
"""


class Later(queue.SimpleQueue):
    """A queue whose items come one by one, each so many seconds behind the one before."""

    def __init__(self, *items, seconds=1.0):
        self.items, self.due, self.seconds = list(items), time.monotonic() + seconds, seconds

    def empty(self):
        return not self.items or time.monotonic() < self.due

    def get(self):
        self.due += self.seconds
        return self.items.pop(0)


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_is_passed_on_to_the_workers_which_are_not_restarted(number, code, capfd):
    assert launched(STOPS, STOPS, restarts=2, events=Later(number)) == code
    assert "asking the workers to stop" in capfd.readouterr().err


def test_a_second_signal_ends_workers_that_do_not_stop(capfd):
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {FOREVER}"
    events = Later(signal.SIGTERM, signal.SIGTERM)
    assert launched(deaf, deaf, restarts=2, events=events) == 75
    assert "ending all at once" in capfd.readouterr().err


def test_no_process_outlives_a_launcher_that_is_killed(tmp_path):
    path = tmp_path / "pids"
    child = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {FOREVER!r}]); "
    note = f"import os; open({str(path)!r}, 'a').write(f'{{os.getpid()}} {{os.getppid()}}\\n'); "
    code = child + note + FOREVER
    program = (
        "import sys; sys.path[:0] = ['tests']; import test_train_launch as t; "
        f"t.launched({code!r}, {code!r})"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as launcher:
        while not path.exists() or len(path.read_text().split()) < 4:
            time.sleep(0.05)
            assert launcher.poll() is None
        launcher.kill()
    assert all(ended(pid) for pid in path.read_text().split())


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """In place of ssh: runs the line by a shell of this machine, in a bare environment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    stand_in = tmp_path / "bin" / "ssh"
    stand_in.write_text(
        '#!/bin/sh\nwhile [ "$1" = -o ]; do echo "$2" >> settings; shift 2; done\n'
        'echo "$1" >> hosts; shift\ncd /\nexec env -i HOME=/ sh -c "$*"\n'
    )
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    return tmp_path


def test_commands_run_over_ssh_in_the_same_folder_with_what_they_need(ssh, monkeypatch, capfd):
    monkeypatch.setenv("MXNET_TEST", "it's $HOME")
    monkeypatch.setenv("SECRET", "stays here")
    code = (
        "import os; print(os.getcwd()); print(os.environ['MXNET_TEST'], os.environ['RANK'], "
        "os.environ.get('SECRET'), \"a 'quoted' word\")"
    )
    tasks = script("launch_tasks")
    host = tasks.Host("somewhere", "127.0.0.2", 1)
    assert launched(code, host=host) == 0
    out = capfd.readouterr().out
    assert out == f"worker 0 | {ssh}\nworker 0 | it's $HOME 0 None a 'quoted' word\n"
    assert (ssh / "hosts").read_text() == "somewhere\n"
    assert "BatchMode=yes" in (ssh / "settings").read_text()


def test_processes_over_ssh_are_signalled_and_ended(ssh, capfd):
    host = script("launch_tasks").Host("somewhere", "127.0.0.2", 1)
    assert launched(STOPS, STOPS, events=Later(signal.SIGTERM, seconds=2), host=host) == 75
    note = "import os; open('pid', 'w').write(str(os.getpid())); "
    fail = "import time, sys; time.sleep(1); sys.exit(5)"
    assert launched(note + FOREVER, fail, host=host) == 5
    assert ended((ssh / "pid").read_text())


def test_a_process_that_hears_nothing_for_too_long_ends():
    watch = str(ROOT / "train" / "launch_watch.py")
    with subprocess.Popen(
        [sys.executable, watch, "0.5", sys.executable, "-c", FOREVER],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.wait(30) == 137


@pytest.mark.parametrize(
    "argv, message",
    [
        (["-n", "2"], "behind --"),
        (["-n", "0", "--", "true"], "not a number from 1"),
        (["--", "true"], "required: -n"),
    ],
)
def test_the_command_line_is_checked(argv, message, capsys):
    with pytest.raises(SystemExit) as exit:
        script("launch").main(argv)
    assert exit.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(find_spec("horovod") is not None, reason="Horovod is installed")
def test_no_servers_and_no_horovod_is_told(capsys):
    assert script("launch").main(["-n", "2", "-s", "0", "--", "true"]) == 1
    assert "extra 'horovod'" in capsys.readouterr().err


def test_a_missing_host_file_is_told(capsys):
    assert script("launch").main(["-n", "2", "--hosts", "missing", "--", "true"]) == 1
    assert "missing" in capsys.readouterr().err
