"""A run whose disk fills up, on a small disk of its own where the tests may mount one."""

import subprocess

import pytest
from runs import arrays, assert_equal, new_run, saved_epochs, train
from small import train_batches


@pytest.fixture
def disk(tmp_path):
    """A folder with room for 2 MiB; the small network's checkpoint takes 0.2."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("only root can mount a disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def filling(batches, disk, epoch, left):
    """The same batches; behind those of an epoch the disk has so many bytes left."""

    def fill():
        with open(disk / "ballast", "wb", buffering=0) as ballast, pytest.raises(OSError):
            while ballast.write(bytes(4096)) == 4096:
                pass
        with open(disk / "ballast", "rb+") as ballast:
            ballast.truncate(max((disk / "ballast").stat().st_size - left, 0))

    class Filling:
        def __init__(self, inner):
            self.inner = inner

        def __len__(self):
            return len(self.inner)

        def __iter__(self):
            yield from self.inner
            fill()

    return lambda number: Filling(batches(number)) if number == epoch else batches(number)


@pytest.fixture(scope="module")
def quiet():
    return train()


@pytest.mark.parametrize(
    "left, name",
    [(0, "metrics.jsonl"), (16384, "epoch-0003.params"), (53248, "epoch-0003.states")],
)
def test_a_full_disk_leaves_the_checkpoint_before_whole(quiet, disk, left, name):
    run = new_run(disk / "run")
    with pytest.raises(OSError, match=f"No space left on device: .*disk/run/.*{name}"):
        train(run=run, batches=filling(train_batches(), disk, 2, left))
    assert saved_epochs(run) == 2
    assert not list(run.path.rglob("*.tmp"))
    (disk / "ballast").unlink()
    again, rest = train(run=run)
    assert [result.epoch for result in rest.epochs] == [2]
    assert rest.epochs[-1].losses == quiet[1].epochs[-1].losses
    assert_equal(arrays(again), arrays(quiet[0]))
