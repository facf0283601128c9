"""Many processes, one database: what fails with one-process vector stores today."""

import os
import re
import signal
import subprocess
import threading
import time

import numpy as np
import pytest
from pymilvus import MilvusClient, MilvusException

from conftest import DEADLINE_S, SHOAL, Server, is_alive, run_python, wait_until

DIM = 16

INSERTER = """
import sys, numpy as np
from pymilvus import MilvusClient
uri, worker, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
client = MilvusClient(uri)
random = np.random.default_rng(worker)
for round in range(rounds):
    print("ready", flush=True)
    sys.stdin.readline()
    vectors = random.random((1000, 16), dtype=np.float32) + 1
    answer = client.insert("faq", [{"vector": vector} for vector in vectors.tolist()])
    assert answer["insert_count"] == 1000, answer
    print("ids", *answer["ids"], flush=True)
"""

SEARCHER = """
import sys
from pymilvus import MilvusClient
uri, rounds = sys.argv[1], int(sys.argv[2])
client = MilvusClient(uri)
for round in range(rounds):
    print("ready", flush=True)
    sys.stdin.readline()
    found = client.search("faq", data=[[-1.0] + [0.0] * 15], limit=1, output_fields=["vector"])[0]
    assert found[0]["distance"] == 0.0 and found[0]["entity"]["vector"] == [-1.0] + [0.0] * 15, found
    print("found", found[0]["id"], flush=True)
"""

pytestmark = pytest.mark.once


def test_the_faqs_scene_two_inserters_and_a_searcher_at_once(server, client):
    rounds = 50
    client.create_collection("faq", dimension=DIM, metric_type="L2", auto_id=True)
    wanted = client.insert("faq", [{"vector": [-1.0] + [0.0] * 15}])["ids"][0]
    workers = [run_python(INSERTER, server.uri, worker, rounds, stdin=subprocess.PIPE) for worker in range(2)]
    workers.append(run_python(SEARCHER, server.uri, rounds, stdin=subprocess.PIPE))
    ids = {wanted}
    for _ in range(rounds):
        for worker in workers:
            assert worker.stdout.readline() == "ready\n", worker.stderr.read()
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        for worker in workers[:2]:
            word, *made = worker.stdout.readline().split()
            assert word == "ids", worker.stderr.read()
            ids.update(map(int, made))
        assert workers[2].stdout.readline() == f"found {wanted}\n", workers[2].stderr.read()
    for worker in workers:
        worker.stdin.close()
        assert worker.wait(DEADLINE_S) == 0, worker.stderr.read()
        worker.stdout.close()
        worker.stderr.close()
    assert len(ids) == 1 + rounds * 2 * 1000
    assert client.query("faq", output_fields=["count(*)"])[0]["count(*)"] == len(ids)


WORKER = """
import sys
from pymilvus import MilvusClient
client = MilvusClient(sys.argv[1])
for _ in range(20):
    found = client.search("shared", data=[[float(sys.argv[2])] * 16], limit=1)[0]
    assert found[0]["id"] == int(sys.argv[2]), found
print("done")
"""


def test_eight_workers_open_clients_on_one_database(server, client):
    client.create_collection("shared", dimension=DIM, metric_type="L2")
    client.insert("shared", [{"id": i, "vector": [float(i)] * DIM} for i in range(100)])
    workers = [run_python(WORKER, server.uri, number) for number in range(8)]
    for worker in workers:
        output, errors = worker.communicate(timeout=DEADLINE_S)
        assert (worker.returncode, output) == (0, "done\n"), errors


FORKER = """
import os, sys, time
from pymilvus import MilvusClient, MilvusException
client = MilvusClient(sys.argv[1])
assert client.search("shared", data=[[5.0] * 16], limit=1)[0][0]["id"] == 5
child = os.fork()
started = time.monotonic()
try:
    assert client.search("shared", data=[[7.0] * 16], limit=1, timeout=1)[0][0]["id"] == 7
except MilvusException as error:
    assert str(error)
took = time.monotonic() - started
if child == 0:
    # Not for ever, whatever else this machine does.
    os._exit(0 if took < 60 else 3)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_client_made_before_fork_never_hangs(server, client):
    client.create_collection("shared", dimension=DIM, metric_type="L2")
    client.insert("shared", [{"id": i, "vector": [float(i)] * DIM} for i in range(10)])
    for _ in range(3):
        process = run_python(FORKER, server.uri)
        _, errors = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, errors


def test_a_second_server_on_one_directory_is_told_who_has_it(server):
    # How soon, tests/process.rs asks.
    second = subprocess.run([SHOAL, "serve", str(server.data_dir), "--listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=DEADLINE_S)
    assert second.returncode == 3, second.stderr
    assert str(server.process.pid) in second.stderr and "in use" in second.stderr


def test_killing_a_searcher_fails_no_search(server, client):
    client.create_collection("shared", dimension=DIM, metric_type="L2")
    client.insert("shared", [{"id": i, "vector": [float(i)] * DIM} for i in range(1000)])
    failures, searches, over = [], [0, 0, 0], threading.Event()

    def search_on(number):
        mine = MilvusClient(server.uri)
        while not over.is_set():
            try:
                assert mine.search("shared", data=[[5.0] * DIM], limit=1)[0][0]["id"] == 5
                searches[number] += 1
            except Exception as error:
                failures.append(error)
        mine.close()

    threads = [threading.Thread(target=search_on, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            before = set(server.pids("searcher"))
            # Of each client: a request on which two searchers die is given up, so each may meet one death at most.
            done = list(searches)
            wait_until(lambda: all(now > before + 7 for now, before in zip(searches, done)) or failures, "searches go on")
            os.kill(next(iter(before)), signal.SIGKILL)
            wait_until(lambda: len(set(server.pids("searcher")) - before) == 1, "a new searcher is there")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[:3]


def test_kill_9_of_everything_loses_nothing_and_leaves_nothing(servers):
    server = servers("kill", "--searchers", "2").start()
    client = MilvusClient(server.uri)
    client.create_collection("kept", dimension=DIM, metric_type="L2")
    for round in range(3):
        client.insert("kept", [{"id": round * 1000 + i, "vector": [float(i)] * DIM} for i in range(1000)])
        client.delete("kept", ids=list(range(round * 1000, round * 1000 + 10)))
        client.upsert("kept", [{"id": round * 1000 + 500, "vector": [9999.0] * DIM}])
        server.kill()
        server.start()
        client = MilvusClient(server.uri)
        assert client.query("kept", output_fields=["count(*)"])[0]["count(*)"] == (round + 1) * 990
        found = client.get("kept", ids=[round * 1000 + 500, round * 1000, round * 1000 + 10], output_fields=["vector"])
        assert [row["id"] for row in found] == [round * 1000 + 10, round * 1000 + 500]
        assert found[1]["vector"] == [9999.0] * DIM
    server.stop()
    assert server.shm_left() == []
    assert [path.name for path in (server.data_dir / "run").glob("*")] == []
    assert not (server.data_dir / "LOCK").exists()
    # A drained database starts again with everything in it.
    server.start()
    assert MilvusClient(server.uri).query("kept", output_fields=["count(*)"])[0]["count(*)"] == 3 * 990


def test_status_tells_of_processes_and_rows(server, client):
    client.create_collection("counted", dimension=DIM)
    client.insert("counted", [{"id": i, "vector": [1.0] * DIM} for i in range(123)])
    client.flush("counted")
    status = server.status()
    roles = sorted(process["role"] for process in status["processes"])
    assert roles == ["builder", "gateway", "searcher", "searcher", "supervisor", "writer"]
    assert all(is_alive(process["pid"]) for process in status["processes"])
    collection = next(entry for entry in status["collections"] if entry["name"] == "counted")
    assert collection["sealed_rows"] + collection["growing_rows"] == 123


def test_doctor_finds_a_flipped_bit_and_nothing_wrong_is_served(servers):
    server = servers("damage", "--searchers", "1").start()
    client = MilvusClient(server.uri)
    for name in ["good", "bad"]:
        client.create_collection(name, dimension=DIM, metric_type="L2")
        client.insert(name, [{"id": i, "vector": [float(i)] * DIM} for i in range(1000)])
        client.flush(name)
    bad = client.describe_collection("bad")["collection_id"]
    client.close()
    server.stop()
    assert subprocess.run([SHOAL, "doctor", str(server.data_dir)], capture_output=True).returncode == 0
    path = next((server.data_dir / "tables" / str(bad)).glob("*.arrow"))
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0x10]))
    report = subprocess.run([SHOAL, "doctor", str(server.data_dir)], capture_output=True, text=True)
    assert report.returncode == 5 and path.name in report.stdout + report.stderr
    server.start()
    client = MilvusClient(server.uri)
    with pytest.raises(MilvusException, match=re.escape(path.name)):
        client.search("bad", data=[[1.0] * DIM], limit=1)
    assert client.search("good", data=[[1.0] * DIM], limit=1)[0][0]["id"] == 1
