"""Real servers for the tests: each starts the `shoal` binary named by SHOAL_BIN, and takes everything down again."""

import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import time

import pytest

SHOAL = os.environ["SHOAL_BIN"]
# An end to what would never come, not a claim: much longer than anything takes on a slow, busy machine.
DEADLINE_S = 600


def pytest_configure(config):
    config.addinivalue_line("markers", "once: about the server more than about the client, or about what only the newest client asks for: not repeated with others")


def wait_until(claim, what, deadline_s=DEADLINE_S):
    """Waits until claim() is true; its last value is returned."""
    end = time.monotonic() + deadline_s
    while True:
        value = claim()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what}")
        time.sleep(0.01)


def children(pid):
    """Process ids of the children of a process."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def state_of(pid):
    """The letter of a process's state; None when it is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def is_alive(pid):
    return state_of(pid) not in ("Z", None)


class Server:
    """One `shoal serve`."""

    def __init__(self, data_dir, *arguments):
        self.data_dir = pathlib.Path(data_dir)
        self.arguments = arguments
        self.process = None
        self.log = self.data_dir.parent / f"{self.data_dir.name}.log"

    def start(self, expect_ready=True):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [SHOAL, "serve", str(self.data_dir), "--listen", "127.0.0.1:0", *self.arguments],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        if expect_ready:
            ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE_S)
            line = self.process.stdout.readline().decode() if ready else ""
            match = re.search(r"127\.0\.0\.1:(\d+)", line)
            assert match, f"no address in the first line {line!r}; the log says:\n{self.log.read_text()[-4000:]}"
            self.first_line = line
            self.uri = f"http://127.0.0.1:{match.group(1)}"
        return self

    def status(self):
        done = subprocess.run([SHOAL, "status", str(self.data_dir), "--json"], capture_output=True, check=True, timeout=DEADLINE_S)
        return json.loads(done.stdout)

    def pids(self, role=None):
        """Process ids by role, from the process titles."""
        found = []
        for pid in children(self.process.pid):
            try:
                title = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if role is None or f"shoal: {role}" in title:
                found.append(pid)
        return found

    def stop(self):
        """Drains; the exit code must be 0."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(DEADLINE_S) == 0, f"exit code of a drained server; the log says:\n{self.log.read_text()[-4000:]}"
        return self

    def kill(self):
        """kill -9 of every process at once."""
        # A supervisor that saw its children die would start others.
        self.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: state_of(self.process.pid) in ("T", "Z", None), "the supervisor stands still")
        pids = [self.process.pid, *children(self.process.pid)]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(DEADLINE_S)
        wait_until(lambda: not any(is_alive(pid) for pid in pids), "killed processes are gone")
        return self

    def shm_left(self):
        """Files in /dev/shm that belong to this database, by the hash in its instance name or by its data path."""
        stem = re.sub(r"[^A-Za-z0-9_]", "_", self.data_dir.name)[:32]
        return sorted(str(path) for path in pathlib.Path("/dev/shm").glob(f"shoal-{stem}-*"))

    def clean_up(self):
        if self.process:
            if self.process.poll() is None:
                self.kill()
            if self.shm_left():
                # The next start sweeps what a kill left; a clean stop then removes the rest.
                self.start().stop()
            self.process.stdout.close()


@pytest.fixture
def servers(tmp_path):
    """Makes servers; at the end all are taken down and /dev/shm must be clean."""
    made = []

    def make(name=None, *arguments):
        # The test's temporary directory makes the name unique on this machine.
        unique = f"{name or 'db'}_{os.getpid()}_{len(made)}_{tmp_path.name[-20:]}"
        server = Server(tmp_path / unique, *arguments)
        made.append(server)
        return server

    yield make
    for server in made:
        server.clean_up()
    left = [path for server in made for path in server.shm_left()]
    assert not left, f"left in /dev/shm: {left}"


@pytest.fixture
def server(servers):
    """A running server with two searchers."""
    return servers("db", "--searchers", "2").start()


@pytest.fixture
def client(server):
    from pymilvus import MilvusClient

    connected = MilvusClient(server.uri)
    yield connected
    connected.close()


def run_python(source, *arguments, **keywords):
    """Starts a Python process on a source text."""
    return subprocess.Popen(
        [sys.executable, "-c", source, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **keywords,
    )


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory):
    """One running server for all tests of a file; each test takes names of its own (`fresh`)."""
    directory = tmp_path_factory.mktemp("shared")
    server = Server(directory / f"shared_{os.getpid()}_{directory.name[-20:]}", "--searchers", "2")
    yield server.start()
    server.stop()
    server.process.stdout.close()
    assert not server.shm_left(), f"left in /dev/shm: {server.shm_left()}"


@pytest.fixture
def shared(shared_server):
    """A client of the shared server; what a test made in the default database is gone afterwards."""
    from pymilvus import MilvusClient

    connected = MilvusClient(shared_server.uri)
    yield connected
    for name in connected.list_collections():
        for alias in connected.list_aliases(name)["aliases"]:
            connected.drop_alias(alias)
        connected.drop_collection(name)
    connected.close()


def refused(text, call, *arguments, code=None, **keywords):
    """The call must fail and say the text, with the code if one is given; the error is returned."""
    from pymilvus import MilvusException

    with pytest.raises(MilvusException) as caught:
        call(*arguments, **keywords)
    assert text in str(caught.value), f"{caught.value} does not say {text!r}"
    assert code is None or caught.value.code == code, caught.value
    return caught.value
