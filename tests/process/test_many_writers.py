"""Six nodes push to one repository, forget and collect, and their processes are killed without a word at random moments.

A round is one push of every node. ROKCTL_TEST_ROUNDS=100 is the long form. ROKCTL_TEST_SEED repeats the choices, not the
machine's timing. What a process was told is done must stand to the end: a version that was acknowledged, and that nobody
was told to forget, restores to the bytes that were pushed.
"""

import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import pytest

from engine.repo.manifest import BROKEN
from engine.repo.pack import read_directory
from engine.repo.session import open_record
from engine.store.base import BlobExists, NoSuchBlob
from engine.units import MIB
from tests.node import Node, file_digest, overwrite, restored_digest, say

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

ROUNDS = int(os.environ.get("ROKCTL_TEST_ROUNDS") or 3)
BETWEEN_CHECKS = 3 if ROUNDS < 20 else 10
WRITERS = 6
PIECES = 24  # of one MiB, that all nodes draw their content from
SIZE = 6 * MIB
KEPT = 2  # versions that a node goes on to have


def test_many_nodes_share_a_directory_and_nothing_is_lost(scratch, rnd):
    run(scratch, str(scratch / "repository"), {}, rnd)


@pytest.mark.s3
def test_many_nodes_share_a_bucket_and_nothing_is_lost(scratch, rnd, s3_place, s3_environment):
    run(scratch, s3_place, s3_environment, rnd)


def run(scratch, url, environment, rnd):
    pieces = [rnd.randbytes(MIB) for _ in range(PIECES)]
    writers = [Writer(scratch, number, url, environment, pieces, rnd.getrandbits(32)) for number in range(WRITERS)]
    writers[0].node.do("repo", "init", "--no-encryption")
    with ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(Writer.begin, writers))
    collector = Collector(Node(scratch / "collector", url, environment), rnd.getrandbits(32))
    for first in range(0, ROUNDS, BETWEEN_CHECKS):
        collector.work_beside(writers, min(BETWEEN_CHECKS, ROUNDS - first))
        verify(writers, rnd, sample=2)
    verify(writers, rnd, sample=None)
    collector.finish()
    verify(writers, rnd, sample=None)
    tally = {name: sum(getattr(writer.tally, name) for writer in writers) for name in Tally.__slots__}
    say(f"{ROUNDS} rounds of {WRITERS} nodes: {tally}, collections {collector.tally}")
    assert tally["killed"], "no push was killed"
    assert tally["acknowledged"], "no push ended"


@dataclass(slots=True)
class Tally:
    """What came of the processes of a node."""

    acknowledged: int = 0
    killed: int = 0
    killed_committed: int = 0
    forgotten: int = 0
    forgets_killed: int = 0


@dataclass
class Writer:
    """A node with one volume, and what it knows of its versions: by id, the digest of what was pushed."""

    scratch: object
    number: int
    url: str
    environment: dict
    pieces: list
    seed: int
    versions: dict = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self):
        self.rnd = random.Random(self.seed)
        self.name = f"node{self.number}"
        environment = {**self.environment, "ROKCTL_NODE": self.name}
        self.node = Node(self.scratch / self.name, self.url, environment)
        self.object = f"shared/{self.name}"
        self.snapshots = 0
        self.usual = 1.0  # seconds that a push took when it was left alone

    def begin(self):
        self.volume = self.node.new_volume(SIZE)
        for at in range(SIZE // MIB):
            overwrite(self.volume, at * MIB, self.rnd.choice(self.pieces))

    def round(self):
        """Change the volume, push it, and let go of an old version; any of the processes may be killed."""
        self.change()
        name = f"s{self.snapshots}"
        self.snapshots += 1
        digest = self.snapshot(name)
        if self.rnd.random() < 0.5:
            self.push_and_be_killed(name)
        if self.rnd.random() < 0.8:
            self.push(name, digest)
        if len(self.versions) > KEPT:
            self.forget()

    def change(self):
        for _ in range(self.rnd.randrange(1, 4)):
            piece = self.rnd.choice(self.pieces) if self.rnd.random() < 0.7 else self.rnd.randbytes(MIB)
            overwrite(self.volume, self.rnd.randrange(SIZE // MIB) * MIB, piece)

    def snapshot(self, name):
        old = self.node.pool.snapshots("v")
        if len(old) > 2:
            self.node.pool.remove_snapshot("v", old[0].name)
        [made] = self.node.pool.create_snapshots({"v": name})
        return file_digest(self.node.home / made.item.path)

    def push_and_be_killed(self, name):
        process = self.node.start("snapshot", "push", f"p/v@{name}", self.object)
        time.sleep(self.rnd.uniform(0, self.usual))
        process.kill()
        ended = self.node.end(process)
        assert ended.code in (0, -9), ended.err
        self.tally.killed += ended.code == -9
        if ended.code == -9:
            bury(self.node, self.name)

    def push(self, name, digest):
        begun = time.monotonic()
        [report] = self.node.do("snapshot", "push", f"p/v@{name}", self.object)
        self.usual = time.monotonic() - begun
        self.tally.acknowledged += 1
        self.tally.killed_committed += report["outcome"] == "already there"
        self.versions[report["version"]] = digest

    def forget(self):
        version = self.rnd.choice(list(self.versions)[:-1])
        del self.versions[version]  # from here on it may be gone
        process = self.node.start("version", "forget", f"{self.object}@{version}")
        if self.rnd.random() < 0.3:
            time.sleep(self.rnd.uniform(0, 0.8))
            process.kill()
        ended = self.node.end(process)
        assert ended.code in (0, -9), ended.err
        self.tally.forgotten += ended.code == 0
        self.tally.forgets_killed += ended.code == -9


def bury(node, name):
    """End the sessions of a node whose process is dead, as a collector does when half an hour has shown it."""
    with node.repository() as repository:
        store = repository.store
        for blob in list(store.list("pending/")):
            try:
                record = open_record(blob.key.removeprefix("pending/"), store.get(blob.key), repository.keyring)
            except NoSuchBlob:
                continue  # another node's, which has ended
            if record.node == name:
                with suppress(BlobExists):  # it had come to its commit
                    store.create(f"versions/{record.version}", BROKEN)
                store.delete(blob.key)


class Collector:
    """Collects as long as the writers write, without a grace time, and is killed at every other run."""

    def __init__(self, node, seed):
        self.node, self.rnd = node, random.Random(seed)
        self.tally = {"ended": 0, "killed": 0, "deleted_packs": 0, "copied_bytes": 0}
        self.usual = 1.0

    def work_beside(self, writers, rounds):
        done = threading.Event()
        with ThreadPoolExecutor(len(writers) + 1) as threads:
            collecting = threads.submit(self.collect_until, done)
            writing = [threads.submit(go_round, writer, rounds) for writer in writers]
            try:
                for one in writing:
                    one.result()
            finally:
                done.set()
            collecting.result()

    def collect_until(self, done):
        while not done.is_set():
            begun = time.monotonic()
            process = self.node.start("repo", "gc", "--grace", "0", "--json")
            if self.rnd.random() < 0.5:
                done.wait(self.rnd.uniform(0, self.usual))
                process.kill()
            ended = self.node.end(process)
            assert ended.code in (0, -9), ended.err
            if ended.code == -9:
                self.tally["killed"] += 1
            else:
                self.usual = time.monotonic() - begun
                self.count(ended.records[-1])

    def count(self, report):
        self.tally["ended"] += 1
        for name in ("deleted_packs", "copied_bytes"):
            self.tally[name] += report[name]
        return report

    def finish(self):
        """With nobody at work a collection comes to its end, and leaves nothing that no version needs."""
        for _ in range(3):  # what one run copies together may be condemned by the next
            report = self.count(self.node.do("repo", "gc", "--grace", "0", "--repack-below", "100%")[-1])
        assert (report["dead_bytes"], report["condemned_packs"], report["waiting"]) == (0, 0, [])
        with self.node.repository() as repository:
            for folder in ("gc/", "s0/", "pending/"):
                assert list(repository.store.list(folder)) == []
            live = needed(repository)
            for name, size in repository.catalog.pack_sizes().items():
                directory = read_directory(
                    name, size, partial(repository.store.get_range, name.key), repository.keyring
                )
                assert {record.chunk[:16] for record in directory.records} <= live, name


def needed(repository):
    """The references of all that the versions need, by a walk of its own."""
    reader, found = repository.reader(), set()
    for manifest in repository.versions():
        for member in manifest.members:
            pages = reader.pages(member.root, member.size)
            regions = list(reader.all_regions(member.root, member.size))
            found |= {member.root, *pages, *regions}
            for number, reference in enumerate(regions):
                found |= {entry.chunk for entry in reader.region(reference, number, member.size)}
    return found


def go_round(writer, rounds):
    for _ in range(rounds):
        writer.round()


def verify(writers, rnd, sample):
    """With nobody at work: the repository is whole, and what must be there is what was pushed."""
    ended = writers[0].node.run("repo", "check", "--read-data", "--json")
    assert ended.code == 0, ended.out + ended.err
    with writers[0].node.repository() as repository:
        there = {manifest.version: manifest for manifest in repository.versions()}
        for writer in writers:
            chosen = list(writer.versions)
            for version in rnd.sample(chosen, min(sample or len(chosen), len(chosen))):
                assert restored_digest(repository, there[version]) == writer.versions[version], version
