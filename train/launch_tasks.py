"""What a group of training processes is: who runs where, in which environment."""

from __future__ import annotations

import ipaddress
import random
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

# What asks workers to stop leaves these be: without them no worker would finish its step.
_IGNORE = "import signal; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]"
_SERVE = [sys.executable, "-c", f"{_IGNORE}; import gluon_ran"]


class Host(NamedTuple):
    """A machine.

    Attributes:
        name: as ssh knows it; "" is this one.
        address: its IPv4 address, by which the others reach it.
        slots: workers that it gets before the next one gets any.
    """

    name: str
    address: str
    slots: int


class Task(NamedTuple):
    """A process.

    Attributes:
        name: as its log lines begin.
        host: where it runs.
        command: what it runs.
        environment: variables that it has besides the launcher's.
    """

    name: str
    host: Host
    command: list[str]
    environment: dict[str, str]


HERE = Host("", "127.0.0.1", 1)


def read_hosts(path: Path) -> list[Host]:
    """The machines that a file names: one a line, `NAME` or `NAME:SLOTS`; # begins a comment.

    Raises:
        ValueError: a line can't be read, a name is unknown, or a machine can't reach the others.
        OSError: there is no such file.
    """
    slots_of: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        name, _, slots = text.partition(":")
        count = slots or "1"
        if not name or name.startswith("-") or not count.isdecimal() or int(count) < 1:
            raise ValueError(f"line {number} of {path} is {text!r}: give NAME or NAME:SLOTS")
        slots_of[name] = slots_of.get(name, 0) + int(count)
    if not slots_of:
        raise ValueError(f"{path} names no host: give one a line")
    hosts = [Host(name, _address(name), slots) for name, slots in slots_of.items()]
    loopback = [host for host in hosts if ipaddress.ip_address(host.address).is_loopback]
    if loopback and len(loopback) < len(hosts):
        raise ValueError(
            f"{loopback[0].name} of {path} is {loopback[0].address}, where the other hosts don't "
            "find it: give its address in their network"
        )
    return hosts


def _address(name: str) -> str:
    try:
        return socket.gethostbyname(name.rpartition("@")[2])
    except OSError:
        raise ValueError(f"host {name} has no address that is known here") from None


def _placed(count: int, hosts: list[Host]) -> list[Host]:
    """A host for each worker: those of a host are neighbours, and slots say how many it has."""
    places = [host for host in hosts for _ in range(host.slots)]
    taken = [places[i % len(places)] for i in range(count)]
    return sorted(taken, key=hosts.index)


@contextmanager
def parameter_server(
    workers: int, servers: int, hosts: list[Host], command: list[str]
) -> Iterator[list[Task]]:
    """Scheduler, servers and workers of MXNet's parameter server, with a port of their own."""
    common = {
        "DMLC_PS_ROOT_URI": hosts[0].address,
        "DMLC_PS_ROOT_PORT": str(_free_port()),
        "DMLC_NUM_WORKER": str(workers),
        "DMLC_NUM_SERVER": str(servers),
    }

    places = _placed(workers, hosts)

    def task(role: str, rank: int, host: Host, what: list[str]) -> Task:
        # MXNet numbers workers as they come, and the first, with the run directory, would be any.
        own = {"DMLC_ROLE": role, "GLUON_RAN_RANK": str(rank), "DMLC_NODE_HOST": host.address}
        name = f"{role} {rank}" if role != "scheduler" else role
        local = _shared_by(host, places, rank if role == "worker" else None)
        return Task(name, host, what, {**common, **own, **local})

    yield [
        task("scheduler", 0, hosts[0], _SERVE),
        *(task("server", i, hosts[i % len(hosts)], _SERVE) for i in range(servers)),
        *(task("worker", i, host, command) for i, host in enumerate(places)),
    ]


@contextmanager
def horovod(workers: int, hosts: list[Host], command: list[str]) -> Iterator[list[Task]]:
    """Horovod's workers, and the service of this process through which they find each other.

    Raises:
        ValueError: Horovod can't be imported.
    """
    try:
        from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
        from horovod.runner.http.http_server import RendezvousServer
    except ImportError as error:
        raise ValueError(
            f"-s 0 trains by Horovod, which can't be imported ({error}): build it as the README "
            "says under Many machines (extra 'horovod'), or give servers"
        ) from None
    places = _placed(workers, hosts)
    known = {host.address: host for host in places}
    slots = ",".join(f"{name}:{places.count(host)}" for name, host in known.items())
    plan = get_host_assignments(parse_hosts(slots), workers)
    service = RendezvousServer()
    port = service.start()
    service.init(plan)
    common = {
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": _address_for(hosts[0].address),
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port),
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
    }
    if ipaddress.ip_address(hosts[0].address).is_loopback:
        common["HOROVOD_GLOO_IFACE"] = "lo"
    try:
        yield [
            Task(
                f"worker {slot.rank}",
                known[slot.hostname],
                command,
                {
                    **common,
                    **_slot(slot),
                    **_shared_by(known[slot.hostname], places, slot.rank),
                    "GLUON_RAN_RANK": str(slot.rank),  # says that the launcher started it
                },
            )
            for slot in plan
        ]
    finally:
        service.stop()


def _slot(slot: Any) -> dict[str, str]:
    names = ("rank", "size", "local_rank", "local_size", "cross_rank", "cross_size", "hostname")
    return {f"HOROVOD_{name.upper()}": str(getattr(slot, name)) for name in names}


def _shared_by(host: Host, places: list[Host], rank: int | None) -> dict[str, str]:
    """Tells gluon_ran how many workers share the machine's cores and GPUs, and which this is."""
    local = {"GLUON_RAN_LOCAL_WORKERS": str(max(places.count(host), 1))}
    if rank is not None:
        local["GLUON_RAN_LOCAL_RANK"] = str(rank - places.index(host))
    return local


def _free_port() -> int:
    """A port that nothing listens on here, of those that systems give to no one by themselves."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
                return port
            except OSError:
                continue


def _address_for(address: str) -> str:
    """This machine's address as another one sees it; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        return probe.getsockname()[0]
