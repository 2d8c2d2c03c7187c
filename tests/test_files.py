"""Files that are written whole or not at all."""

import errno
import os

import pytest

from gluon_ran import _files


def folder_sync_fails(monkeypatch, number):
    def fsync(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_files.os, "fsync", fsync)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_without_sync_of_folders_is_written_to(tmp_path, monkeypatch, number):
    folder_sync_fails(monkeypatch, number)
    _files.write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"


def test_a_folder_that_fails_is_named(tmp_path, monkeypatch):
    folder_sync_fails(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match=str(tmp_path)) as caught:
        _files.write_text(tmp_path / "a", "text")
    assert caught.value.errno == errno.EIO
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
