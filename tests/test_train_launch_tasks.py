"""What the launcher starts where: hosts, and the environment of each process."""

import sys
from types import SimpleNamespace

import pytest
from scripts import script


def test_hosts_share_the_workers_by_their_slots(tmp_path):
    tasks = script("launch_tasks")
    (tmp_path / "hosts").write_text("127.0.0.1:2  # two cards\n\n127.0.0.2\n")
    hosts = tasks.read_hosts(tmp_path / "hosts")
    with tasks.parameter_server(4, 2, hosts, ["train"]) as group:
        places = {each.name: each.host.name for each in group}
        seen = {each.name: each.environment for each in group}
    assert places == {
        "scheduler": "127.0.0.1", "server 0": "127.0.0.1", "server 1": "127.0.0.2",
        "worker 0": "127.0.0.1", "worker 1": "127.0.0.1", "worker 2": "127.0.0.1",
        "worker 3": "127.0.0.2",
    }  # fmt: skip
    assert len({each["DMLC_PS_ROOT_PORT"] for each in seen.values()}) == 1
    assert seen["worker 3"]["DMLC_NODE_HOST"] == "127.0.0.2"
    assert seen["worker 3"]["GLUON_RAN_RANK"] == "3"
    assert [seen[f"worker {i}"]["GLUON_RAN_LOCAL_WORKERS"] for i in (0, 3)] == ["3", "1"]
    assert [seen[f"worker {i}"]["GLUON_RAN_LOCAL_RANK"] for i in range(4)] == ["0", "1", "2", "0"]


@pytest.fixture
def rendezvous(monkeypatch):
    """In place of what the launcher takes of Horovod, which may not be installed."""

    class Service:
        def start(self):
            return 1234

        def init(self, plan):
            self.plan = plan

        def stop(self):
            del self.plan

    def assigned(hosts, count):
        plan = [(name, local) for name, slots in hosts for local in range(slots)]
        return [
            SimpleNamespace(
                rank=rank, size=count, local_rank=local, local_size=dict(hosts)[name],
                cross_rank=0, cross_size=len(hosts), hostname=name,
            )
            for rank, (name, local) in enumerate(plan)
        ]  # fmt: skip

    def parsed(text):
        return [(name, int(slots)) for name, slots in (e.split(":") for e in text.split(","))]

    for name in ("", ".runner", ".runner.common", ".runner.common.util", ".runner.http"):
        monkeypatch.setitem(sys.modules, f"horovod{name}", SimpleNamespace())
    monkeypatch.setitem(
        sys.modules, "horovod.runner.common.util.hosts",
        SimpleNamespace(get_host_assignments=assigned, parse_hosts=parsed),
    )  # fmt: skip
    monkeypatch.setitem(
        sys.modules, "horovod.runner.http.http_server", SimpleNamespace(RendezvousServer=Service)
    )


def test_horovods_workers_know_their_places_and_that_they_are_launched(tmp_path, rendezvous):
    tasks = script("launch_tasks")
    (tmp_path / "hosts").write_text("127.0.0.1:2\n127.0.0.2\n")
    with tasks.horovod(3, tasks.read_hosts(tmp_path / "hosts"), ["train"]) as group:
        seen = {each.name: (each.host.name, each.environment) for each in group}
    assert list(seen) == ["worker 0", "worker 1", "worker 2"]
    assert [host for host, _ in seen.values()] == ["127.0.0.1", "127.0.0.1", "127.0.0.2"]
    for key, expected in (
        ("HOROVOD_RANK", ["0", "1", "2"]),
        ("GLUON_RAN_RANK", ["0", "1", "2"]),
        ("GLUON_RAN_LOCAL_RANK", ["0", "1", "0"]),
        ("GLUON_RAN_LOCAL_WORKERS", ["2", "2", "1"]),
    ):
        assert [environment[key] for _, environment in seen.values()] == expected, key


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "names no host"),
        ("a:b", "line 1 of .* is 'a:b': give NAME or NAME:SLOTS"),
        ("-oProxyCommand=x", "give NAME or NAME:SLOTS"),
        ("no.such.host.invalid", "no address"),
        ("127.0.0.1\n10.0.0.1", "give its address in their network"),
    ],
)
def test_host_files_that_make_no_sense_are_refused(tmp_path, text, message):
    (tmp_path / "hosts").write_text(text)
    with pytest.raises(ValueError, match=message):
        script("launch_tasks").read_hosts(tmp_path / "hosts")
