"""Ctrl-C and SIGTERM at random moments: the right exit code, a sentence, everything released, nothing half made to be seen."""

import shutil
import signal
import time
from pathlib import Path

import pytest

from engine.units import MIB
from tests.node import Node, file_digest, overwrite, restored_digest, say, spread
from tests.servers import make_bucket, start_seaweedfs

pytestmark = pytest.mark.slow

SIZE = 32 * MIB
ROUNDS = 6
ATTEMPTS = 20
SIGNALS = pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)


@pytest.fixture
def node(scratch, rnd):
    """A node with a snapshot `p/v@one`, and a repository with nothing in it."""
    node = Node(scratch / "node", str(scratch / "repository"))
    overwrite(node.new_volume(SIZE), 0, rnd.randbytes(SIZE))
    node.do("snapshot", "create", "p/v@one")
    node.do("repo", "init", "--no-encryption")
    return node


def interrupted_rounds(node, rnd, number, code, rounds, *words, prepare=lambda: ()):
    """Run a command again and again, `prepare` giving its last words each time; interrupt it; say how it ended."""
    process = start(node, *words, *prepare())
    begun = time.monotonic()
    assert node.end(process).code == 0
    longest = time.monotonic() - begun
    codes = []
    for delay in spread(rnd, rounds, longest):
        last_words = prepare()
        process = start(node, *words, *last_words)
        time.sleep(delay)
        process.send_signal(number)
        ended = node.end(process)
        # After the last word Python still ends for a moment; then the kernel answers, and a shell calls that the same.
        assert ended.code in (0, code, -number), ended.err
        assert "Traceback" not in ended.err, ended.err
        if ended.code == code:
            assert ended.err.startswith("rokctl: "), ended.err
        codes.append(ended.code)
        yield ended, last_words
    say(f"{rounds} rounds of {longest:.2f} s ended with {sorted(codes)}")
    assert code in codes, "no round met the program at work"


def start(node, *words, prefix=()):
    """Start a command, and wait until it answers to signals."""
    process = node.start(*words, prefix=prefix)
    while signal.SIGTERM not in caught(process) and process.poll() is None:
        time.sleep(0.001)
    return process


def caught(process):
    """The signals that a process has handlers for."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    [mask] = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt:")]
    return {number for number in signal.Signals if mask >> (number - 1) & 1}


def test_ctrl_c_while_the_program_is_still_loading_ends_it_without_a_word(node):
    """That is from our first line, which takes Python's handler away, until ours is there: some hundredths of a second."""
    for _ in range(ATTEMPTS):
        process = node.start("version", "list")
        while process.poll() is None and signal.SIGINT not in caught(process):
            pass  # Python starts
        while process.poll() is None and signal.SIGINT in caught(process):
            pass  # our first line has not been reached
        process.send_signal(signal.SIGINT)
        ended = node.end(process)
        if ended.code == -signal.SIGINT and not ended.out:
            assert ended.err == ""
            return
        # Others had the processor meanwhile, and it came later: at work, or at the end.
        assert ended.code in (0, 130, -signal.SIGINT), ended.err
        assert "Traceback" not in ended.err
    pytest.fail(f"in {ATTEMPTS} attempts the program was never met while it was loading")


def test_a_ctrl_c_that_is_ignored_from_the_start_stays_ignored(node):
    process = start(node, "snapshot", "push", "p/v@one", prefix=("sh", "-c", "trap '' INT; exec \"$@\"", "sh"))
    process.send_signal(signal.SIGINT)
    assert node.end(process).code == 0


def test_a_push_that_sleeps_for_its_rate_limits_ends_at_once(node):
    """Each worker is held for minutes by a read, and each upload by a pack."""
    process = start(node, "snapshot", "push", "p/v@one", "--limit-read", "8K", "--limit-upload", "8K")
    time.sleep(1)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert node.end(process).code == 143
    assert time.monotonic() - begun < 20
    with node.store() as store:
        assert [*store.list("pending/")] == []


@pytest.mark.s3
def test_a_push_to_a_server_that_died_ends_within_seconds(node, scratch, s3_environment):
    server = start_seaweedfs(scratch / "seaweedfs")
    try:
        make_bucket(server, "tests")
        here = Node(node.home, f"s3://tests/x?endpoint={server.endpoint}", s3_environment)
        here.do("repo", "init", "--no-encryption")
        process = start(here, "snapshot", "push", "p/v@one", "--limit-read", "10M")
        with here.store() as store:
            while not [*store.list("pack/")]:
                assert process.poll() is None
                time.sleep(0.05)
    finally:
        server.stop()
    time.sleep(3)  # until its uploads have found out, and wait for the next try
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    ended = here.end(process)
    assert ended.code == 143, ended.err
    assert time.monotonic() - begun < 20


@SIGNALS
def test_a_push_that_is_interrupted_releases_its_session_and_its_lock(node, scratch, rnd, number, code):
    copies = iter(range(ROUNDS + 1))

    def fresh_repository():
        copy = scratch / f"repository-{next(copies)}"
        shutil.copytree(scratch / "repository", copy)
        return "--repo", copy

    push = ("snapshot", "push", "p/v@one")
    for _, words in interrupted_rounds(node, rnd, number, code, ROUNDS, *push, prepare=fresh_repository):
        here = Node(node.home, str(words[1]))
        assert not [*words[1].glob("pending/*")], "the session is still open"
        assert len(here.do("version", "list")) <= 1
        assert here.run("repo", "check").code == 0
        assert here.run(*push, "--no-wait").code == 0, "the lock is held"
        with here.repository() as repository:
            [manifest] = repository.versions()
            assert restored_digest(repository, manifest) == file_digest(node.path_of("v"))
        shutil.rmtree(words[1])


@SIGNALS
def test_a_restore_that_is_interrupted_says_so_and_can_be_run_again(node, rnd, number, code):
    [pushed] = node.do("snapshot", "push", "p/v@one")
    node.do("volume", "create", "p/other", "--size", "1M")

    def no_volume():
        node.pool.remove_volume("back")
        return ()

    def rounds():
        for ended, _ in interrupted_rounds(node, rnd, number, code, ROUNDS, *restore, prepare=no_volume):
            yield ended
        for _ in range(ROUNDS):  # on a busy machine, random moments may all be others
            if not met:
                no_volume()
                yield interrupted_at_work(node, number, restore)

    restore = ("restore", "p/v", "--to", "p/back")
    met = []
    for ended in rounds():
        shown = [volume["restoring"] for volume in node.do("volume", "list") if volume["name"] == "back"]
        if shown == [None]:  # the signal came too late
            assert file_digest(node.path_of("back")) == file_digest(node.path_of("v")), ended.err
            continue
        assert shown in ([], [pushed["version"]])
        if shown:
            met.append(ended)
            refused = node.run("snapshot", "create", "p/back@x")
            assert (refused.code, "only partly written" in refused.err) == (2, True), refused.err
        node.do(*restore)
        assert file_digest(node.path_of("back")) == file_digest(node.path_of("v"))
    assert met, "no round met a restore that had begun"


def interrupted_at_work(node, number, restore):
    """Interrupt a restore as soon as its volume is there."""
    process = start(node, *restore)
    while process.poll() is None and not any(volume.name == "back" for volume in node.pool.volumes()):
        time.sleep(0.001)
    process.send_signal(number)
    return node.end(process)


@SIGNALS
def test_a_restore_to_a_file_that_is_interrupted_leaves_no_file(node, scratch, rnd, number, code):
    node.do("snapshot", "push", "p/v@one")
    folder = scratch / "restored"

    def empty_folder():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return ()

    restore = ("restore", "p/v", "--to-file", folder / "file")
    for ended, _ in interrupted_rounds(node, rnd, number, code, ROUNDS // 2, *restore, prepare=empty_folder):
        if left := [*folder.iterdir()]:
            assert left == [folder / "file"], ended.err
            assert file_digest(folder / "file") == file_digest(node.path_of("v")), ended.err
