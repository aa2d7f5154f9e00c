"""Where the passphrase comes from."""

import sys
from pathlib import Path

import pytest

from engine.config import RepositoryConfig
from engine.errors import Failed, NotFound, Refused
from engine.repo.keyblob import key_file_secret
from rokctl.secret import read_passphrase, read_secret


def test_a_file_s_last_line_end_is_no_part_of_it_but_spaces_are(tmp_path):
    (tmp_path / "p").write_bytes(b" two  words \r\n")
    assert read_passphrase(RepositoryConfig(password_file=tmp_path / "p"), {}) == " two  words "


def test_a_command_prints_it_and_no_shell_reads_the_command(tmp_path):
    command = f"{sys.executable} -c \"print('$HOME;')\""
    assert read_passphrase(RepositoryConfig(password_command=command), {}) == "$HOME;"


def test_the_environment_is_used_when_there_is_neither():
    assert read_passphrase(RepositoryConfig(), {"ROKCTL_PASSWORD": "secret"}) == "secret"


def test_a_file_goes_before_the_environment(tmp_path):
    (tmp_path / "p").write_text("from the file", encoding="utf-8")
    config = RepositoryConfig(password_file=tmp_path / "p")
    assert read_passphrase(config, {"ROKCTL_PASSWORD": "secret"}) == "from the file"


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (RepositoryConfig(), Refused, "no passphrase was given"),
        (RepositoryConfig(password_file=Path("/nonexistent")), NotFound, "there is no passphrase file /nonexistent"),
        (RepositoryConfig(password_file=Path("/")), Refused, "cannot be read"),
        (RepositoryConfig(password_file=Path("/dev/null")), Refused, "is empty"),
        (RepositoryConfig(password_command="false"), Failed, "'false' ended with 1"),
        (RepositoryConfig(password_command="/nonexistent"), Failed, "cannot be run"),
        (RepositoryConfig(password_command="'"), Failed, "cannot be run"),
        (RepositoryConfig(password_command="true"), Refused, "is empty"),
        (RepositoryConfig(password_command=r"printf \\377x"), Failed, "printed what is not UTF-8"),
    ],
    ids=str,
)
def test_a_source_that_gives_none_is_an_error_that_says_so(config, error, message, monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(error, match=message) as caught:
        read_passphrase(config, {"PATH": "/usr/bin:/bin"})
    assert caught.value.hint


def test_no_message_quotes_a_byte_of_what_is_no_text(tmp_path):
    (tmp_path / "p").write_bytes(b"\xfesecret")
    with pytest.raises(Refused, match="is not UTF-8") as caught:
        read_passphrase(RepositoryConfig(password_file=tmp_path / "p"), {})
    assert "fe" not in caught.value.message.removeprefix(f"the passphrase file {tmp_path / 'p'}")
    assert "--key-file" in caught.value.hint


def test_bytes_of_the_environment_that_are_no_text_are_refused():
    with pytest.raises(Refused, match="not UTF-8"):
        read_secret(RepositoryConfig(), {"ROKCTL_PASSWORD": "a\udcff"})


def test_a_key_file_goes_before_the_environment_and_nothing_is_taken_off_it(tmp_path):
    (tmp_path / "k").write_bytes(b"key\n")
    secret = read_secret(RepositoryConfig(key_file=tmp_path / "k"), {"ROKCTL_PASSWORD": "secret"})
    assert secret == key_file_secret(b"key\n")
