"""Downloads from a local server that breaks off, refuses and lies."""

import hashlib
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.data import DataError
from gluon_ran.data.download import cache_folder, download, download_text, md5_of

import mxnet as mx

CONTENT = bytes(range(256)) * 40
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server:
    """Answers with CONTENT as a list of faults tells, one an answer; then without fault."""

    def __init__(self):
        self.faults, self.ranges = [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/data.tar.gz"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def answer(self, request):
        fault = self.faults.pop(0) if self.faults else None
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        if isinstance(fault, int):
            return request.send_error(fault)
        start = int(asked[6:-1]) if asked and fault != "no ranges" else 0
        if start >= len(CONTENT):
            return request.send_error(416)
        body = CONTENT[start:]
        shown = start + 1 if fault == "other range" else start
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {shown}-{len(CONTENT) - 1}/{len(CONTENT)}")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if fault == "damage":
            body = body[:-1] + b"?"
        request.wfile.write(body[: len(body) // 2] if fault == "break" else body)

    def close(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.close()


def fetch(server, path, attempts=4):
    return download(server.url, path, MD5, attempts=attempts, wait_s=0.001)


def test_a_download_arrives_and_is_not_repeated(server, tmp_path):
    path = tmp_path / "cache" / "data.tar.gz"
    assert fetch(server, path) == path
    assert path.read_bytes() == CONTENT
    assert md5_of(path) == MD5
    fetch(server, path)
    assert server.ranges == [None]
    assert not list(path.parent.glob("*.part"))


def test_a_sha256_is_told_by_its_length(server, tmp_path):
    checksum = hashlib.sha256(CONTENT).hexdigest()
    path = download(server.url, tmp_path / "data", checksum)
    assert path.read_bytes() == CONTENT
    server.faults = ["damage"]
    with pytest.raises(DataError, match=f"not have the SHA-256 {checksum}"):
        download(server.url, tmp_path / "other", checksum, attempts=1)


def test_a_text_arrives_or_is_not_there(server, monkeypatch):
    monkeypatch.setattr("test_data_download.CONTENT", "gr\u00fcn".encode())
    server.faults = ["break", 503, None, 404, 410]
    texts = [download_text(server.url, wait_s=0.001) for _ in range(3)]
    assert texts == ["gr\u00fcn", None, None]
    assert len(server.ranges) == 5


def test_a_text_that_does_not_arrive_is_an_error(server):
    with pytest.raises(DataError, match="what arrived is no text; check the network"):
        download_text(server.url, attempts=1)
    server.faults = [500]
    with pytest.raises(DataError, match=f"{server.url} could not .*: the server answered 500"):
        download_text(server.url, attempts=1)
    with pytest.raises(DataError, match="no connection"):
        download_text("http://127.0.0.1:9/", attempts=2, wait_s=0.001)


@pytest.mark.parametrize("code, asked", [(403, 1), (429, 4), (500, 4)])
def test_what_a_server_refuses_is_not_asked_for_again(server, tmp_path, code, asked, caplog):
    server.faults = [code] * 8
    for get in (
        lambda: fetch(server, tmp_path / "data"),
        lambda: download_text(server.url, wait_s=0.001),
    ):
        server.ranges.clear()
        with pytest.raises(DataError, match=f"the server answered {code}"):
            get()
        assert len(server.ranges) == asked
    assert f"attempt 1 of 4 to download {server.url}" in caplog.text or code == 403


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    server.faults = ["break", "break"]
    assert fetch(server, tmp_path / "data").read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert server.ranges == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]


def test_a_later_call_goes_on_too(server, tmp_path):
    server.faults = ["break"]
    with pytest.raises(DataError, match="ended after 5120 of 10240 bytes"):
        fetch(server, tmp_path / "data", attempts=1)
    assert not (tmp_path / "data").exists()
    assert fetch(server, tmp_path / "data", attempts=1).read_bytes() == CONTENT
    assert server.ranges[1] == "bytes=5120-"


def test_a_complete_part_needs_no_more(server, tmp_path):
    (tmp_path / "data.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path / "data", attempts=1).read_bytes() == CONTENT


@pytest.mark.parametrize("fault", ["no ranges", "other range", 503, "damage"])
def test_a_part_survives_servers_that_are_odd(server, tmp_path, fault):
    (tmp_path / "data.part").write_bytes(CONTENT[:100])
    server.faults = [fault]
    assert fetch(server, tmp_path / "data").read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"?" * 100, CONTENT + b"?"])
def test_a_part_of_another_file_is_thrown_away(server, tmp_path, part):
    (tmp_path / "data.part").write_bytes(part)
    assert fetch(server, tmp_path / "data").read_bytes() == CONTENT


def test_a_damaged_file_is_fetched_again(server, tmp_path):
    (tmp_path / "data").write_bytes(CONTENT[:-1])
    assert fetch(server, tmp_path / "data").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("fault", "message", "asked"),
    [("damage", f"not have the MD5 {MD5}", 4), (404, "answered 404", 1)],
)
def test_what_stays_wrong_is_an_error(server, tmp_path, fault, message, asked):
    server.faults = [fault] * 4
    with pytest.raises(DataError, match=message) as caught:
        fetch(server, tmp_path / "data")
    assert server.url in str(caught.value)
    assert len(server.ranges) == asked
    assert not (tmp_path / "data").exists()


def test_no_network_is_a_clear_error(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/data"
        with pytest.raises(DataError, match="check the network") as caught:
            download(url, tmp_path / "data", MD5, attempts=2, wait_s=0.001)
    assert str(tmp_path / "data") in str(caught.value)


def test_processes_wait_for_each_other(server, tmp_path):
    server.faults = ["break"]
    threads = [threading.Thread(target=fetch, args=(server, tmp_path / "data")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "data").read_bytes() == CONTENT
    assert len(server.ranges) == 2


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="MXNET_HOME"):
        download("http://127.0.0.1:9/data", tmp_path / "file" / "data", MD5)


@pytest.mark.parametrize("home", [None, "elsewhere"])
def test_the_cache_is_mxnets_own(monkeypatch, home):
    if home is None:
        monkeypatch.delenv("MXNET_HOME", raising=False)
    else:
        monkeypatch.setenv("MXNET_HOME", home)
    expected = os.path.join(mx.base.data_dir(), "datasets", "cifar10")
    assert str(cache_folder("cifar10")) == expected
