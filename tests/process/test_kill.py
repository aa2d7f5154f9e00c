"""The process of a push is killed, without a word, at random moments: nothing committed is lost, nothing sent is sent again."""

import os
import time

import pytest

from engine.units import MIB
from tests.node import Node, file_digest, overwrite, restored_digest, say

# A minute on two idle cores, and several where others work too.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROUNDS = int(os.environ.get("ROKCTL_TEST_ROUNDS") or 25)
SIZE = 44 * MIB
CHANGE = 36 * MIB  # more than two packs, so that a push may die between them
SLOWLY = ("--limit-read", "100M")  # so that a push sends for longer than it starts
OVERHEAD = 8 * MIB  # of a push: what is cut anew around the change, until the old cuts are met again; maps and facts


def test_a_push_killed_at_any_moment_into_a_directory(scratch, rnd):
    kill_pushes(Node(scratch / "node", str(scratch / "repository")), rnd, rounds=ROUNDS)


@pytest.mark.s3
def test_a_push_killed_at_any_moment_over_s3(scratch, rnd, s3_place, s3_environment):
    kill_pushes(Node(scratch / "node", s3_place, s3_environment), rnd, rounds=ROUNDS // 3)


def kill_pushes(node, rnd, rounds):
    volume = node.new_volume(SIZE)
    overwrite(volume, 0, rnd.randbytes(SIZE))
    node.do("repo", "init", "--no-encryption")
    contents = {"base": take(node, "base")}
    node.do("snapshot", "push", "p/v@base")
    change(volume, rnd)
    contents["undisturbed"] = take(node, "undisturbed")
    begun = time.monotonic()
    node.do("snapshot", "push", "p/v@undisturbed", *SLOWLY)
    longest = time.monotonic() - begun
    resumed = committed = 0
    for number in range(rounds):
        name = f"round-{number}"
        change(volume, rnd)
        contents[name] = take(node, name)
        before = status(node)

        packs = number % 3
        delay = rnd.uniform(0, longest / 20 if packs else longest)
        process = node.start("snapshot", "push", f"p/v@{name}", *SLOWLY)
        wait_for_packs(node, process, before.packs + packs)
        time.sleep(delay)
        process.kill()
        node.end(process)

        assert node.run("repo", "check").code == 0, f"killed {delay:.3f} s after {packs} packs"
        after = status(node)
        committed += after.versions - before.versions
        resumed += after.packs > before.packs and after.versions == before.versions
        verify(node, contents, sample=[-1, rnd.randrange(after.versions)])
        push_again(node, name, before, after)
    say(f"{rounds} rounds, of {longest:.2f} s: {resumed} were taken up, {committed} had committed")
    assert resumed, "no round was killed while it had sent something"
    verify(node, contents, sample=range(len(contents)))
    assert node.run("repo", "check", "--read-data").code == 0


def wait_for_packs(node, process, number):
    """Wait until so many packs are in the store. Moments are chosen by that and by time, as a machine's speed varies."""
    with node.store() as store:
        while process.poll() is None and len([*store.list("pack/")]) < number:
            time.sleep(0.005)


def change(volume, rnd):
    overwrite(volume, rnd.randrange(SIZE - CHANGE), rnd.randbytes(CHANGE))


def take(node, name):
    """Take a snapshot, and give the hash of what it holds. The one before the last is not needed any more."""
    snapshots = node.pool.snapshots("v")
    if len(snapshots) > 1:
        node.pool.remove_snapshot("v", snapshots[0].name)
    [made] = node.pool.create_snapshots({"v": name})
    return file_digest(node.home / made.item.path)


def status(node):
    with node.repository() as repository:
        return repository.status()


def verify(node, contents, sample):
    """Restore some of the versions, by their numbers from the oldest."""
    with node.repository() as repository:
        versions = repository.versions()
        for number in sample:
            manifest = versions[number]
            name = manifest.member(None).origin.snapshot
            assert restored_digest(repository, manifest) == contents[name], f"version {number}, {name}"


def push_again(node, name, before, killed):
    """Push what the killed push was to push. What that had sent in whole packs is not sent a second time."""
    [report] = node.do("snapshot", "push", f"p/v@{name}")
    now = status(node)
    assert now.versions == before.versions + 1
    if killed.versions > before.versions:
        assert (report["outcome"], report["stored"]) == ("already there", 0)
        return
    sent = killed.pack_bytes - before.pack_bytes
    assert report["new_chunks"] <= now.chunks - killed.chunks
    assert report["stored"] <= CHANGE + OVERHEAD - sent, f"{sent} bytes had been sent"
