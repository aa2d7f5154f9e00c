"""`rokctl repo key`, and opening by passphrase, key file and paper copy, from the command line."""

import errno
import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from passphrase import PASSPHRASE

from engine.errors import Failed
from engine.store.directory import DirectoryStore
from rokctl import cli
from rokctl.secret import write_key_file
from tests.interrupting import interrupted_everywhere
from tests.rights import append_only, read_only

pytestmark = pytest.mark.slow

NEW = "Новая фраза 🐈"


@pytest.fixture
def files(tmp_path):
    """A new passphrase and two key files, by name."""
    (tmp_path / "new").write_text(NEW + "\n", encoding="utf-8")
    (tmp_path / "key").write_bytes(bytes(range(32)))
    (tmp_path / "key-and-newline").write_bytes(bytes(range(32)) + b"\n")
    return {path.name: path for path in tmp_path.iterdir() if path.is_file()}


@pytest.fixture
def encrypted(rokctl, files):
    """A repository with one key, for PASSPHRASE."""
    made = rokctl("repo", "init")
    assert made.code == 0, made.err


def listed(rokctl, *words):
    ran = rokctl("repo", "key", "list", "--json", *words)
    assert ran.code == 0, ran.err
    return ran.records


def test_the_story_of_the_keys(rokctl, encrypted, files, world):
    [first] = listed(rokctl)
    assert (first["kind"], first["in_use"], first["state"]) == ("passphrase", True, "good")

    [nodes] = rokctl("repo", "key", "add", "--new-key-file", files["key"], "--label", "nodes", "--json").records
    assert (nodes["outcome"], nodes["kind"], nodes["label"]) == ("created", "key file", "nodes")
    again = rokctl("repo", "key", "add", "--new-key-file", files["key"])
    assert again.out == f"key {nodes['id']} (key file, nodes): already there\n"
    by_file = listed(rokctl, "--key-file", files["key"])
    assert [(key["id"], key["in_use"]) for key in by_file] == [(first["id"], False), (nodes["id"], True)]
    assert rokctl("repo", "info", "--key-file", files["key-and-newline"]).code == 14, "every byte of a key file counts"

    [changed] = rokctl("repo", "key", "change", "--new-password-file", files["new"], "--json").records
    assert (changed["outcome"], changed["removed"]) == ("changed", first["id"])
    assert rokctl("repo", "info").code == 14, "the old passphrase opens nothing"
    world["ROKCTL_PASSWORD_FILE"] = str(files["new"])
    assert [key["in_use"] for key in listed(rokctl)] == [False, True]

    dry = rokctl("repo", "key", "remove", nodes["id"][:6], "--dry-run")
    assert dry.out == f"key {nodes['id']} (key file, nodes): would be removed\n"
    assert rokctl("repo", "key", "remove", nodes["id"][:6]).out == f"key {nodes['id']}: removed\n"
    assert rokctl("repo", "key", "remove", nodes["id"]).out == f"key {nodes['id']}: already gone\n"
    last = rokctl("repo", "key", "remove", changed["id"], "--json")
    assert (last.code, "last" in last.failure["error"]) == (2, True)
    assert rokctl("repo", "key", "remove", changed["id"], "--dry-run").code == 2
    assert NEW in files["new"].read_text(encoding="utf-8")


def test_the_story_of_a_generated_key_file(rokctl, world, tmp_path):
    path = tmp_path / "node.key"
    made = rokctl("repo", "key", "generate", path)
    assert (made.code, made.out) == (0, f"key file {path}: created\n")
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    again = rokctl("repo", "key", "generate", path, "--json")
    assert (again.code, "exists" in again.failure["error"]) == (2, True)
    assert path.read_bytes() == before
    assert rokctl("repo", "key", "generate", tmp_path / "nowhere" / "key").code == 2

    assert rokctl("--key-file", path, "repo", "init").code == 0
    [key] = listed(rokctl, "--key-file", path)
    assert (key["kind"], key["derivation"], key["state"]) == ("key file", "blake3", "good")
    same = rokctl("--key-file", path, "repo", "key", "change", "--new-key-file", path)
    assert same.out == f"key {key['id']} (key file): already there\n"
    passphrase = rokctl("--key-file", path, "repo", "key", "add", "--new-password-file", world["ROKCTL_PASSWORD_FILE"])
    assert passphrase.code == 0, passphrase.err
    assert len(listed(rokctl)) == 2

    path.write_bytes(before[:30] + b"x" + before[31:])
    changed = rokctl("--key-file", path, "version", "list")
    assert (changed.code, "not any more" in changed.err) == (2, True)
    assert "Traceback" not in changed.err


def test_a_key_file_is_read_once_so_it_may_come_through_a_pipe(rokctl, world, tmp_path):
    path, pipe = tmp_path / "key", tmp_path / "pipe"
    rokctl("repo", "key", "generate", path)
    assert rokctl("--key-file", path, "repo", "init").code == 0
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()))
    writer.start()
    ran = rokctl("--key-file", pipe, "version", "list")
    writer.join()
    assert (ran.code, ran.err) == (0, "")


def test_a_damaged_key_file_through_a_pipe_is_told_and_one_that_is_not_needed_is_not_read(rokctl, world, tmp_path):
    path, pipe = tmp_path / "key", tmp_path / "pipe"
    rokctl("repo", "key", "generate", path)
    assert rokctl("--key-file", path, "repo", "init").code == 0
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()[:-4]))
    writer.start()
    ran = rokctl("--key-file", pipe, "version", "list")
    writer.join()
    assert (ran.code, "not any more" in ran.err) == (2, True)

    world["ROKCTL_REPOSITORY"] = str(tmp_path / "clear")
    assert rokctl("repo", "init", "--no-encryption").code == 0
    assert rokctl("--key-file", pipe, "version", "list").code == 0


def test_a_node_with_a_generated_key_file_lists_no_keys(rokctl, world, tmp_path, monkeypatch):
    rokctl("repo", "key", "generate", tmp_path / "key")
    assert rokctl("--key-file", tmp_path / "key", "repo", "init").code == 0
    listed, list_ = [], DirectoryStore.list
    monkeypatch.setattr(DirectoryStore, "list", lambda self, prefix: listed.append(prefix) or list_(self, prefix))
    assert rokctl("--key-file", tmp_path / "key", "version", "list").code == 0
    assert "versions/" in listed
    assert "keys/" not in listed


def test_a_generated_key_file_is_on_the_disk_when_it_is_said_to_be_made(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: synced.append(str(Path(f"/proc/self/fd/{file}").readlink())) or fsync(file)
    )
    write_key_file(tmp_path / "key", b"content")
    assert synced == [str(tmp_path / "key"), str(tmp_path)]


def test_a_disk_without_room_is_left_without_half_a_key_file(tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Failed, match="No space left"):
        write_key_file(tmp_path / "key", b"content")
    assert not (tmp_path / "key").exists()


def test_a_key_file_is_whole_or_not_there_whenever_its_making_is_interrupted(tmp_path):
    path = tmp_path / "key"

    def scenario(interrupted):
        path.unlink(missing_ok=True)
        with suppress(KeyboardInterrupt), interrupted():
            write_key_file(path, b"content")
        assert not path.exists() or path.read_bytes() == b"content"

    assert interrupted_everywhere(scenario) > 10


def test_the_list_is_a_table_for_people(rokctl, encrypted):
    heading, row = rokctl("repo", "key", "list").out.splitlines()
    assert heading.split("  ")[0] == "KEY"
    assert "argon2id m=65536 t=2 p=1" in row
    assert row.endswith("yes")


def test_a_page_of_paper_is_the_way_back_when_all_keys_are_gone(rokctl, encrypted, files, world, tmp_path):
    page = rokctl("repo", "key", "export")
    assert page.code == 0
    assert page.out.isascii()
    [record] = rokctl("repo", "key", "export", "--json").records
    assert all(line in page.out for line in record["lines"])
    for key in (tmp_path / "repository" / "keys").iterdir():
        key.unlink()
    lost = rokctl("version", "list", "--json")
    assert (lost.code, "--from-paper" in lost.failure["hint"]) == (13, True)

    typed = tmp_path / "typed"
    typed.write_text("\n".join(record["lines"]).upper(), encoding="ascii")
    del world["ROKCTL_PASSWORD_FILE"]
    back = rokctl("repo", "key", "add", "--from-paper", typed, "--new-password-file", files["new"])
    assert back.code == 0, back.err
    world["ROKCTL_PASSWORD_FILE"] = str(files["new"])
    assert rokctl("version", "list").code == 0


def test_a_paper_that_is_mistyped_or_of_another_repository_is_told(rokctl, encrypted, files, world, tmp_path):
    [record] = rokctl("repo", "key", "export", "--json").records
    typed = tmp_path / "typed"
    add = ("repo", "key", "add", "--from-paper", typed, "--new-password-file", files["new"], "--json")
    missing = rokctl(*add)
    assert (missing.code, "no paper copy" in missing.failure["error"]) == (10, True)
    typed.write_text("\n".join(record["lines"][:-1]), encoding="ascii")
    assert rokctl(*add).failure["error"] == "the paper copy lacks line 6"
    typed.write_bytes(b"\xff" * 1000)
    assert rokctl(*add).code == 2
    typed.write_text("\n".join(record["lines"]), encoding="ascii")
    world["ROKCTL_REPOSITORY"] = str(tmp_path / "other")
    assert rokctl("repo", "init").code == 0
    assert rokctl(*add).code == 14


def test_a_repository_can_be_made_with_a_key_file_alone(rokctl, files, world):
    del world["ROKCTL_PASSWORD_FILE"]
    world["ROKCTL_KEY_FILE"] = str(files["key"])
    assert rokctl("repo", "init").code == 0
    assert listed(rokctl)[0]["kind"] == "key file"
    wrong = rokctl("repo", "info", "--password-file", files["new"], "--json")
    assert (wrong.code, wrong.failure["error"].startswith("the passphrase opens no key")) == (14, True)


@pytest.mark.parametrize(
    "words",
    [["list"], ["add"], ["add", "--from-paper", "/none"], ["remove", "abcd"], ["change"], ["export"]],
    ids=" ".join,
)
def test_a_repository_without_encryption_has_no_keys_and_says_so_before_it_asks(rokctl, words):
    rokctl("repo", "init", "--no-encryption")
    ran = rokctl("repo", "key", *words, "--json")
    assert ran.code == 2
    assert "is not encrypted, so it has no keys" in ran.failure["error"]
    assert ran.failure["hint"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["add", "--new-password-file", "new", "--new-key-file", "key"],
            2,
            "both --new-password-file and --new-key-file",
        ),
        (["change", "--new-password-file", "new", "--new-key-file", "key"], 2, "both --new-password-file and"),
        (["list", "--password-file", "new", "--key-file", "key"], 2, "both --password-file and --key-file"),
        (["add", "--from-paper", "new", "--key-file", "key"], 2, "both --from-paper and --key-file"),
        (["add", "--from-paper", "new", "--password-file", "new"], 2, "both --from-paper and --password-file"),
        (["add", "--new-key-file", "none"], 10, "there is no key file"),
        (["add", "--new-key-file", "/"], 2, "cannot be read: Is a directory"),
        (["add", "--new-key-file", "/dev/null"], 2, "the key file is empty"),
        (["add", "--new-key-file", "/dev/zero"], 2, "larger than"),
        (["add", "--new-password-file", "none"], 10, "there is no passphrase file"),
        (["add", "--new-password-file", "/dev/null"], 2, "is empty"),
        (["add"], 2, "no new passphrase was given"),
        (["add", "--label", "a\nb"], 2, "cannot be the label"),
        (["list", "--key-file", "none"], 10, "there is no key file"),
        (["remove", "abc"], 2, "does not name one key"),
        (["remove", "zzzz"], 10, "has no key zzzz"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else None,
)
def test_bad_input_is_refused_and_nothing_is_touched(rokctl, encrypted, files, tmp_path, words, code, message):
    before = {path: path.read_bytes() for path in (tmp_path / "repository").rglob("*") if path.is_file()}
    ran = rokctl("repo", "key", *(files.get(word, word) for word in words), "--json")
    assert (ran.code, ran.out) == (code, ""), ran.err
    assert message in ran.failure["error"]
    assert ran.failure["hint"]
    assert {path: path.read_bytes() for path in (tmp_path / "repository").rglob("*") if path.is_file()} == before


def test_the_command_line_wins_over_the_environment_which_may_name_one_source(rokctl, encrypted, files, world):
    world["ROKCTL_KEY_FILE"] = str(files["key"])
    both = rokctl("repo", "info", "--json")
    assert both.code == 2
    assert "repository.password_file and repository.key_file" in both.failure["error"]
    del world["ROKCTL_PASSWORD_FILE"]
    assert rokctl("repo", "info").code == 14
    assert rokctl("repo", "info", "--password-file", files["passphrase"]).code == 0


def test_a_person_types_a_new_passphrase_twice(rokctl, encrypted, files, monkeypatch):
    typed = iter([NEW, NEW + "x", NEW, NEW])
    prompts = []

    def answer(prompt, _stream):
        prompts.append(prompt)
        return next(typed)

    monkeypatch.setattr("rokctl.secret._has_terminal", lambda: True)
    monkeypatch.setattr("getpass.getpass", answer)
    assert rokctl("repo", "key", "add").code == 14, "the two differ"
    assert len(listed(rokctl)) == 1
    assert rokctl("repo", "key", "add").code == 0
    assert rokctl("repo", "info", "--password-file", files["new"]).code == 0
    assert prompts == ["new passphrase: ", "the same again: "] * 2


SECRETS = {
    "--password-file": ("passphrase", PASSPHRASE.encode()),
    "--key-file": ("key", bytes(range(32))),
}


@pytest.mark.parametrize("option", SECRETS)
@pytest.mark.parametrize("place", ["engine.repo.keyblob._derive", "engine.repo.unlock.check_seal"])
def test_a_crash_in_the_middle_of_opening_shows_no_secret(
    rokctl, encrypted, files, world, monkeypatch, capfdbinary, option, place
):
    name, secret = SECRETS[option]
    rokctl("repo", "key", "add", "--new-key-file", files["key"])

    def crash(*_arguments):
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(place, crash)
    del world["ROKCTL_PASSWORD_FILE"]
    capfdbinary.readouterr()
    assert cli.run(["repo", "info", option, str(files[name])], {**world, "ROKCTL_DEBUG": "1"}) == 1

    out, err = capfdbinary.readouterr()
    [trace] = (Path(world["ROKCTL_STATE_DIR"]) / "faults").iterdir()
    assert b"Traceback" in trace.read_bytes()
    assert b"ZeroDivisionError: planted" in err
    shapes = [
        secret,
        repr(secret).encode(),
        repr(secret.decode()).encode(),
        secret.hex().encode(),
        b"horse",
        b"x01\\x02",
    ]
    for text in (out, err, trace.read_bytes()):
        assert not [shape for shape in shapes if shape in text]


def with_rights(monkeypatch, rights):
    """Let the command line open its store with these rights only."""
    from engine.store import url

    whole = url.open_store
    monkeypatch.setattr(url, "open_store", lambda *words, **settings: rights(whole(*words, **settings)))


def node_with_a_version(rokctl, tmp_path):
    rokctl("pool", "create", "p", "--dir", tmp_path / "p")
    rokctl("volume", "create", "p/v", "--size", "8M")
    rokctl("repo", "init", "--no-encryption")
    assert rokctl("snapshot", "create", "p/v@one", "--push").code == 0


def test_with_read_only_credentials_everything_that_reads_works(rokctl, tmp_path, monkeypatch):
    node_with_a_version(rokctl, tmp_path)
    with_rights(monkeypatch, read_only)
    for words in (
        ["version", "list"],
        ["version", "show", "p/v"],
        ["restore", "p/v", "--to", "p/back"],
        ["restore", "p/v", "--to-file", tmp_path / "file"],
        ["repo", "info"],
        ["repo", "check"],
        ["repo", "check", "--read-data"],
    ):
        ran = rokctl(*words)
        assert ran.code == 0, ran.err
    assert rokctl("snapshot", "create", "p/v@two", "--push").code == 2


def test_with_append_only_credentials_push_works_and_needs_no_more(rokctl, tmp_path, monkeypatch):
    node_with_a_version(rokctl, tmp_path)
    with_rights(monkeypatch, append_only)
    ran = rokctl("snapshot", "create", "p/v@two", "--push")
    assert ran.code == 0, ran.err
    assert rokctl("repo", "info", "--json").records[0]["open_sessions"] == 0
    assert rokctl("repo", "check", "--read-data").code == 0


def test_who_may_read_only_lists_the_keys_and_adds_none(rokctl, encrypted, files, monkeypatch):
    with_rights(monkeypatch, read_only)
    assert len(listed(rokctl)) == 1
    assert rokctl("repo", "key", "export").code == 0
    assert rokctl("repo", "key", "add", "--new-key-file", files["key"]).code == 2
