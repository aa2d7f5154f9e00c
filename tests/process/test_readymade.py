"""A process that is had ready-made does what one that was started does."""

import pytest

from tests.node import Node

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["version", "list", "--json"], 0),
        (["version", "show", "b/none"], 10),
        (["repo", "inof"], 2),
        (["pool", "list"], 0),
    ],
    ids=lambda words: "" if isinstance(words, int) else " ".join(words),
)
def test_a_ready_made_process_answers_as_one_that_was_started(scratch, words, code):
    node = Node(scratch / "node", str(scratch / "repository"))
    node.do("repo", "init", "--no-encryption")
    made = node.run(*words)
    assert made.code == code
    assert made == node.end(node.start(*words))


def test_nothing_of_one_process_is_left_in_the_next(scratch):
    one, other = (Node(scratch / name, str(scratch / "repository")) for name in ("one", "other"))
    del other.environment["ROKCTL_REPOSITORY"]
    one.do("repo", "init", "--no-encryption")
    assert one.run("repo", "info").code == 0
    assert other.run("repo", "info").code == 2
    assert one.run("repo", "info").code == 0
