"""Random operations on a server and on a model of plain Python dicts: they must always say the same.

Every round makes a schema, then inserts, upserts (whole rows and some fields), deletes (by ids, by filter), makes and drops partitions,
reads of every kind, flushes, compactions, releases, restarts, and kills of the writer and of everything; some rows expire at the end.
Every third round begins with enough rows for an index, of any type: its searches find nearly all of the nearest rows, everything else
stays exact. A failing round prints its seed:

    SHOAL_RANDOM_SEED=<seed> SHOAL_RANDOM_OPERATIONS=<n>   replays one round
    SHOAL_RANDOM_OPERATIONS=1000000 SHOAL_RANDOM_SECONDS=86400   runs on
"""

import json
import os
import random
import signal
import time

from pymilvus import DataType, MilvusClient, MilvusException

from conftest import wait_until

SEED = os.environ.get("SHOAL_RANDOM_SEED")
OPERATIONS = int(os.environ.get("SHOAL_RANDOM_OPERATIONS", "10000"))
SECONDS = float(os.environ.get("SHOAL_RANDOM_SECONDS", "100"))
# However slow the machine is.
OPERATIONS_MIN = 200
ROUND_OPERATIONS = 500
DIM = 3
# Operations of a round with an index: each goes over many more rows.
LARGE_ROUND_OPERATIONS = 80
# Files of fewer than 4,096 rows get no index.
LARGE_ROWS = 4_400
LARGE_DIM = 8
# Settings that are quick to build with.
INDEXES = {
    "AUTOINDEX": {},
    "HNSW": {"M": 16, "efConstruction": 60},
    "HNSW_SQ": {"M": 16, "efConstruction": 60, "sq_type": "SQ8", "refine": True, "refine_type": "FP32"},
    "IVF_FLAT": {"nlist": 32},
}
WORDS = ["", "a", "b", "ab", "é", "x'y", 'q"r', "long " * 3]


class Table:
    """A random schema, its rows as the model knows them, and the collection on the server."""

    def __init__(self, dice, client, name, is_large):
        self.dice, self.client, self.name, self.is_large = dice, client, name, is_large
        self.dim = LARGE_DIM if is_large else DIM
        self.index_type = dice.choice(sorted(INDEXES)) if is_large else "AUTOINDEX"
        self.text_keys = dice.random() < 0.3
        self.metric = dice.choice(["L2", "IP"])
        self.has_note = dice.random() < 0.7
        self.has_grade = dice.random() < 0.5
        self.has_info = dice.random() < 0.5
        self.has_tags = dice.random() < 0.4
        self.dynamic = dice.random() < 0.6
        # Spread over partitions, no file would be large.
        self.by_key = not is_large and dice.random() < 0.3
        self.rows = {}
        # Partitions of keys, and all that there are; rows by partition key have theirs from the server.
        self.homes, self.partitions = {}, ["_default"]
        schema = MilvusClient.create_schema(enable_dynamic_field=self.dynamic)
        schema.add_field("id", DataType.VARCHAR if self.text_keys else DataType.INT64, is_primary=True, **({"max_length": 20} if self.text_keys else {}))
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.dim)
        schema.add_field("size", DataType.INT64, is_partition_key=self.by_key)
        if self.has_note:
            schema.add_field("note", DataType.VARCHAR, max_length=60, nullable=True)
        if self.has_grade:
            schema.add_field("grade", DataType.INT64, default_value=5)
        if self.has_info:
            schema.add_field("info", DataType.JSON, nullable=True)
        if self.has_tags:
            schema.add_field("tags", DataType.ARRAY, element_type=DataType.INT64, max_capacity=6, nullable=True)
        indexes = client.prepare_index_params()
        indexes.add_index("vector", index_type=self.index_type, metric_type=self.metric, params=INDEXES[self.index_type])
        options = {"num_partitions": dice.choice([1, 3, 16])} if self.by_key else {}
        client.create_collection(name, schema=schema, index_params=indexes, **options)

    def key(self):
        is_of_many = self.is_large and self.dice.random() < 0.5
        return self.key_of(self.dice.randrange(1_000, 1_000 + LARGE_ROWS) if is_of_many else self.dice.randrange(120))

    def key_of(self, number):
        return f"k{number}" if self.text_keys else number - 20

    def fields(self):
        """Random values of every field but the key, as they are sent and as they are stored."""
        dice = self.dice
        row = {"vector": self.vector(), "size": dice.randrange(10)}
        if self.has_note:
            row["note"] = dice.choice([None, *WORDS])
        if self.has_grade:
            row["grade"] = dice.randrange(10)
        if self.has_info:
            row["info"] = dice.choice([None, {"a": dice.randrange(5)}, {"b": [1, dice.randrange(3)]}, {"a": "text"}])
        if self.has_tags:
            row["tags"] = dice.choice([None, [dice.randrange(4) for _ in range(dice.randrange(5))]])
        if self.dynamic:
            for name in dice.sample(["color", "depth", "extra"], dice.randrange(3)):
                row[name] = dice.choice([1, 2.5, "red", True, [1], {"x": 1}])
        return row

    def vector(self):
        """Distances of such numbers are exact in single precision; many rows are equally near where there is no index."""
        if self.is_large:
            return [self.dice.randrange(-128, 129) / 16 for _ in range(self.dim)]
        return [float(self.dice.randrange(-8, 9)) for _ in range(self.dim)]

    def keys(self, count):
        return list(dict.fromkeys(self.key() for _ in range(count)))

    # Writes.

    def fill(self):
        """Many rows, and waits for their index."""
        rows = [{"id": self.key_of(number)} | self.fields() for number in range(1_000, 1_000 + LARGE_ROWS)]
        self.client.insert(self.name, rows)
        self.put(rows, "_default")
        self.client.flush(self.name)
        self.wait_for_index()
        assert self.client.describe_index(self.name, "vector")["indexed_rows"] == LARGE_ROWS

    def wait_for_index(self):
        def is_finished():
            described = self.client.describe_index(self.name, "vector")
            assert described["state"] != "Failed", described
            return described["state"] == "Finished" and described["pending_index_rows"] == 0

        wait_until(is_finished, "the index is built")

    def put(self, rows, partition):
        for row in rows:
            self.rows[row["id"]] = row
            self.homes[row["id"]] = partition

    def forget(self, keys):
        for key in keys:
            self.rows.pop(key, None)
            self.homes.pop(key, None)

    def partition_options(self, partition):
        return {} if self.by_key or partition == "_default" else {"partition_name": partition}

    def insert(self):
        new = [key for key in self.keys(self.dice.choice([1, 5, 30])) if key not in self.rows]
        rows = [{"id": key} | self.fields() for key in new]
        partition = self.dice.choice(self.partitions)
        if rows:
            assert self.client.insert(self.name, rows, **self.partition_options(partition))["insert_count"] == len(rows)
            self.put(rows, partition)

    def by_partition(self, rows):
        """Rows by the partition they are in, or may go to: an upsert replaces within its partition only."""
        new = self.dice.choice(self.partitions)
        parts = {}
        for row in rows:
            parts.setdefault(self.homes.get(row["id"], new), []).append(row)
        return parts.items()

    def upsert(self):
        rows = [{"id": key} | self.fields() for key in self.keys(self.dice.choice([1, 3, 20]))]
        for partition, part in self.by_partition(rows):
            assert self.client.upsert(self.name, part, **self.partition_options(partition))["upsert_count"] == len(part)
            self.put(part, partition)

    def upsert_some_fields(self):
        names = None
        changes = {}
        for key in self.keys(self.dice.choice([1, 2, 8])):
            if key in self.rows or self.dice.random() < 0.1:
                fields = self.fields()
                static = [name for name in ("vector", "size", "note", "grade", "info", "tags") if name in fields]
                names = names if names is not None else self.dice.sample(static, self.dice.randrange(len(static) + 1))
                changes[key] = {name: value for name, value in fields.items() if name in names or name not in static}
        if not changes:
            return
        rows = [{"id": key} | fields for key, fields in changes.items()]
        is_complete = {"vector", "size"} <= set(names)
        if not is_complete and any(key not in self.rows for key in changes):
            try:
                self.client.upsert(self.name, rows, partial_update=True)
            except MilvusException as error:
                assert "has no corresponding fieldData pass in" in str(error), error
                return
            raise AssertionError(f"taken without its required fields: {rows}")
        nothing = {"note": None, "grade": 5, "info": None, "tags": None}
        empty = {name: value for name, value in nothing.items() if getattr(self, f"has_{name}")}
        for partition, part in self.by_partition(rows):
            self.client.upsert(self.name, part, partial_update=True, **self.partition_options(partition))
            self.put([self.rows.get(row["id"], empty) | row for row in part], partition)

    def delete(self):
        keys = self.keys(self.dice.choice([1, 5]))
        assert self.client.delete(self.name, ids=keys)["delete_count"] == len(keys)
        self.forget(keys)

    def delete_by_filter(self):
        text, matches = self.filter()
        if self.is_large or self.dice.random() < 0.7:
            low = self.dice.randrange(9)
            text, matches = f"({text}) and size == {low}", lambda row, inner=matches: row["size"] == low and inner(row)
        doomed = [key for key, row in self.rows.items() if matches(row)]
        count = self.client.delete(self.name, filter=text)["delete_count"]
        # A filter that comes to a list of keys counts the list, as Milvus does.
        assert count == len(doomed) or "id in" in text and count > len(doomed), text
        self.forget(doomed)

    # Partitions.

    def create_partition(self):
        if self.by_key or len(self.partitions) > 3:
            return
        name = f"part{self.dice.randrange(6)}"
        self.client.create_partition(self.name, name)
        if name not in self.partitions:
            self.partitions.append(name)

    def drop_partition(self):
        if len(self.partitions) > 1:
            name = self.partitions.pop(self.dice.randrange(1, len(self.partitions)))
            self.client.release_partitions(self.name, [name])
            self.client.drop_partition(self.name, name)
            self.forget([key for key, home in self.homes.items() if home == name])

    def some_partitions(self):
        """Options of a read, and what is left of the rows by them."""
        if self.by_key or len(self.partitions) == 1 or self.dice.random() < 0.5:
            return {}, self.rows
        names = self.dice.sample(self.partitions, 1 + self.dice.randrange(len(self.partitions)))
        return {"partition_names": names}, {key: row for key, row in self.rows.items() if self.homes[key] in names}

    # Reads.

    def filter(self, depth=2):
        """A filter as text and as a function of a row; nulls and missing keys never match."""
        dice = self.dice
        if depth and dice.random() < 0.4:
            (left, is_left), (right, is_right) = self.filter(depth - 1), self.filter(depth - 1)
            if dice.random() < 0.5:
                return f"({left}) and ({right})", lambda row: is_left(row) and is_right(row)
            return f"({left}) or ({right})", lambda row: is_left(row) or is_right(row)
        number = dice.randrange(10)
        choices = [
            (f"size > {number}", lambda row: row["size"] > number),
            (f"size in [{number}, 3]", lambda row: row["size"] in (number, 3)),
            (f"size == {number}", lambda row: row["size"] == number),
            (f"size % 3 == {number % 3}", lambda row: row["size"] % 3 == number % 3),
            (f"not (size == {number})", lambda row: row["size"] != number),
        ]
        keys = self.keys(4)
        choices.append((f"id in {json.dumps(keys)}", lambda row: row["id"] in keys))
        if not self.text_keys:
            choices.append((f"id >= {number}", lambda row: row["id"] >= number))
        if self.has_note:
            choices.append(("note is null", lambda row: row["note"] is None))
            choices.append(('note like "a%"', lambda row: row["note"] is not None and row["note"].startswith("a")))
            choices.append(('note != "b"', lambda row: row["note"] not in (None, "b")))
        if self.has_grade:
            choices.append((f"{number} <= grade < 8", lambda row: number <= row["grade"] < 8) if number < 8 else ("grade == 5", lambda row: row["grade"] == 5))
        if self.has_info:
            choices.append((f'info["a"] == {number % 5}', lambda row: (row["info"] or {}).get("a") == number % 5))
        if self.has_tags:
            choices.append(("array_contains(tags, 2)", lambda row: row["tags"] is not None and 2 in row["tags"]))
        if self.dynamic:
            choices.append(('color == "red"', lambda row: row.get("color") == "red"))
            choices.append(("exists depth", lambda row: "depth" in row))
        return dice.choice(choices)

    def query(self):
        text, matches = self.filter()
        options, rows = self.some_partitions()
        wanted = [rows[key] for key in sorted(rows, key=self.order) if matches(rows[key])]
        found = [dict(row) for row in self.client.query(self.name, filter=text, output_fields=["*"], **options)]
        assert found == wanted, f"{text} {options}: {found} instead of {wanted}"
        assert self.client.query(self.name, filter=text, output_fields=["count(*)"], **options)[0]["count(*)"] == len(wanted), (text, options)
        offset, limit = self.dice.randrange(5), 1 + self.dice.randrange(8)
        page = self.client.query(self.name, filter=text, output_fields=["id"], offset=offset, limit=limit, **options)
        assert [row["id"] for row in page] == [row["id"] for row in wanted[offset : offset + limit]], (text, options)

    def order(self, key):
        return key.encode() if self.text_keys else key

    def get(self):
        keys = self.keys(5)
        found = [dict(row) for row in self.client.get(self.name, ids=keys)]
        assert found == [self.rows[key] for key in sorted(keys, key=self.order) if key in self.rows]

    def search(self):
        text, matches = self.filter() if self.dice.random() < 0.6 else ("", lambda row: True)
        options, rows = self.some_partitions()
        query = self.vector()
        limit = self.dice.choice([1, 5, 200])
        if self.is_large:
            options["search_params"] = {"params": {"nprobe": 32} if self.index_type == "IVF_FLAT" else {"ef": 900}}
        near = {"L2": lambda row: sum((a - b) ** 2 for a, b in zip(query, row["vector"])), "IP": lambda row: -sum(a * b for a, b in zip(query, row["vector"]))}[self.metric]
        wanted = sorted(near(row) for row in rows.values() if matches(row))[:limit]
        found = self.client.search(self.name, data=[query], limit=limit, filter=text, output_fields=["*"], **options)[0]
        sign = -1 if self.metric == "IP" else 1
        distances = [sign * hit["distance"] for hit in found]
        if self.is_large:
            assert len(distances) == len(wanted) and distances == sorted(distances), (text, options)
            recall = sum(distance <= wanted[-1] for distance in distances) / len(wanted) if wanted else 1.0
            assert recall >= 0.95, f"{self.index_type} {self.metric} finds {recall} of {limit}: {text} {options}"
        else:
            assert distances == wanted, (text, options)
        for hit in found:
            row = rows[hit["id"]]
            assert dict(hit["entity"]) == row and sign * hit["distance"] == near(row) and matches(row), (hit, row, text)
        assert len({hit["id"] for hit in found}) == len(found)

    def search_in_groups(self):
        found = self.client.search(self.name, data=[self.vector()], limit=4, group_by_field="size", group_size=2, strict_group_size=True, output_fields=["size"])[0]
        counts = {}
        for hit in found:
            counts[hit["entity"]["size"]] = counts.get(hit["entity"]["size"], 0) + 1
        stored = {}
        for row in self.rows.values():
            stored[row["size"]] = stored.get(row["size"], 0) + 1
        is_full = all(count == min(2, stored[size]) for size, count in counts.items())
        assert len(counts) == min(4, len(stored)) and is_full, (counts, stored)

    def iterate(self):
        iterator = self.client.query_iterator(self.name, batch_size=self.dice.choice([700, 5_000] if self.is_large else [7, 50]), output_fields=["size"])
        found = {}
        while page := iterator.next():
            found |= {row["id"]: row["size"] for row in page}
        iterator.close()
        assert found == {key: row["size"] for key, row in self.rows.items()}

    def everything(self):
        found = [dict(row) for row in self.client.query(self.name, filter="size >= 0", output_fields=["*"])]
        assert found == [self.rows[key] for key in sorted(self.rows, key=self.order)]

    def live_long(self):
        self.client.alter_collection_properties(self.name, properties={"collection.ttl.seconds": self.dice.choice([3600, -1])})

    def expire(self):
        """Every row becomes too old, and stays so."""
        self.client.alter_collection_properties(self.name, properties={"collection.ttl.seconds": 1})
        wait_until(lambda: not self.client.query(self.name, filter="size >= 0", limit=1), "every row has expired")
        self.forget(list(self.rows))


def is_large(seed):
    """Whether the round of a seed has an index."""
    return seed % 3 == 0


def operations_of(is_large):
    return LARGE_ROUND_OPERATIONS if is_large else ROUND_OPERATIONS


class Round:
    """One server and one collection for some hundred operations."""

    def __init__(self, seed, server):
        self.dice, self.server = random.Random(seed), server
        self.is_large = is_large(seed)
        self.client = MilvusClient(server.uri)
        self.table = Table(self.dice, self.client, "model", self.is_large)

    def reconnect(self):
        self.client.close()
        self.client = self.table.client = MilvusClient(self.server.uri)

    def flush(self):
        self.client.flush("model")

    def compact(self):
        job = self.client.compact("model")
        wait_until(lambda: self.client.get_compaction_state(job) == "Completed", "the compaction is done")

    def release_and_load(self):
        self.client.release_collection("model")
        self.client.load_collection("model")

    def restart(self):
        self.server.stop().start()
        self.reconnect()

    def kill_everything(self):
        self.server.kill().start()
        self.reconnect()

    def kill_writer(self):
        before = self.server.pids("writer")
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: (now := self.server.pids("writer")) and not set(now) & set(before), "a new writer is there")

        def writes():
            try:
                self.client.delete("model", ids=["none"] if self.table.text_keys else [10**9])
                return True
            except MilvusException:
                return False

        wait_until(writes, "the new writer takes writes")

    def run(self, operations, is_over):
        table = self.table
        if self.is_large:
            table.fill()
        usual = [(12, table.insert), (10, table.upsert), (10, table.upsert_some_fields), (8, table.delete), (3, table.delete_by_filter)]
        usual += [(14, table.query), (8, table.get), (14, table.search), (4, table.search_in_groups), (2, table.iterate), (3, table.everything)]
        usual += [(1, table.create_partition), (0.5, table.drop_partition), (0.5, table.live_long)]
        rare = [(1.5, self.flush), (1, self.compact), (0.3, self.release_and_load), (0.12, self.restart), (0.12, self.kill_everything), (0.2, self.kill_writer)]
        weights, actions = zip(*usual, *rare)
        done = 0
        while done < min(operations, operations_of(self.is_large)) and not is_over(done):
            action = self.dice.choices(actions, weights)[0]
            action()
            done += 1
        table.everything()
        self.kill_everything()
        table.everything()
        if self.dice.random() < 0.3:
            table.expire()
            self.kill_everything()
            table.everything()
        self.client.close()
        return done


def test_the_server_agrees_with_a_model_of_plain_python(servers):
    deadline = time.monotonic() + SECONDS
    done, rounds = 0, 0
    first = int(SEED) if SEED else random.SystemRandom().randrange(1 << 32)

    def is_over(more=0):
        return done + more >= OPERATIONS_MIN and time.monotonic() >= deadline

    while done < OPERATIONS and not is_over():
        seed = first + rounds
        server = servers(f"random{rounds}", "--searchers", "2").start()
        try:
            done += Round(seed, server).run(OPERATIONS - done, is_over)
        except BaseException:
            print(f"\nfailed with SHOAL_RANDOM_SEED={seed} SHOAL_RANDOM_OPERATIONS={operations_of(is_large(seed))}")
            raise
        server.clean_up()
        rounds += 1
    print(f"{done} operations in {rounds} rounds from seed {first}")
