"""The process of a copy is killed, without a word, after its second pack: the next one completes it, and sends nothing twice."""

import time

import pytest

from engine.units import MIB
from tests.node import Node, file_digest, overwrite, restored_digest, say
from tests.repositories import findings

pytestmark = pytest.mark.slow

SIZE = 40 * MIB
CHANGE = 20 * MIB  # more than a pack


def test_a_copy_that_was_killed_is_completed_by_the_next(scratch, rnd):
    node, copy = (Node(scratch / "node", str(scratch / name)) for name in ("repository", "copy"))
    contents = push_versions(node, rnd)
    copy.do("repo", "init", "--no-encryption")
    process = node.start("repo", "copy", "--to", copy.url, "--limit-read", "20M")
    wait_for_packs(copy, process, 2)
    process.kill()
    node.end(process)
    with copy.repository() as repository:
        assert findings(repository) == ()
        before = repository.status()
    say(f"{before.versions} versions and {before.packs} packs had arrived")

    *_, total = node.do("repo", "copy", "--to", copy.url)

    assert (total["created"], total["already_there"]) == (len(contents) - before.versions, before.versions)
    with copy.repository() as repository:
        assert findings(repository) == ()
        assert [restored_digest(repository, manifest) for manifest in repository.versions()] == contents
        facts = list(repository.catalog.facts())
        chunks = {pack.prefixes[at : at + 16] for pack in facts for at in range(0, len(pack.prefixes), 16)}
        assert len(chunks) == sum(pack.entries for pack in facts), "nothing was sent twice"


def push_versions(node, rnd):
    """Three versions of a volume, each with a part of its own; the hashes of what they hold."""
    volume = node.new_volume(SIZE)
    node.do("repo", "init", "--no-encryption")
    contents = []
    for number in range(3):
        overwrite(volume, rnd.randrange(SIZE - CHANGE), rnd.randbytes(CHANGE))
        node.do("snapshot", "create", f"p/v@{number}", "--push")
        contents.append(file_digest(volume))
    return contents


def wait_for_packs(node, process, number):
    """Wait until so many packs have arrived."""
    with node.store() as store:
        while process.poll() is None and len([*store.list("pack/")]) < number:
            time.sleep(0.005)
