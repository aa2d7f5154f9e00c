"""The configuration file and the environment: what they may say, and what is refused."""

from pathlib import Path

import pytest

from engine.config import Config, known_keys, override, read_config
from engine.errors import NotFound, Refused

EXAMPLE = Path(__file__).parents[2] / "config" / "config.yaml"
NOWHERE = Path("/nonexistent/config.yaml")


def read(text: str, folder: Path, environment: dict[str, str] | None = None) -> Config:
    file = folder / "config.yaml"
    file.write_text(text, encoding="utf-8")
    return read_config(environment or {}, file)


def test_the_example_file_is_valid_and_sets_what_it_says():
    config = read_config({}, EXAMPLE)
    assert config.repository.url == "s3://backups/rokctl?endpoint=https://s3.example.org"
    assert config.repository.password_file == Path("/etc/rokctl/passphrase")
    assert config.push.labels == {"site": "berlin"}
    assert config.limits.read == 400 << 20


def test_the_example_file_names_every_key():
    text = EXAMPLE.read_text(encoding="utf-8")
    missing = [key for key in known_keys() if f"{key.rpartition('.')[2]}:" not in text]
    assert missing == ["push.workers", "push.uploaders"], "tuning knobs alone are left to the manual"


def test_without_files_and_environment_everything_is_unset():
    assert read_config({}, system_file=NOWHERE) == Config()


def test_an_empty_file_is_valid(tmp_path):
    assert read("# nothing\n", tmp_path) == Config()


def test_the_user_s_file_wins_over_the_system_s_and_the_environment_over_both(tmp_path):
    system = tmp_path / "system.yaml"
    system.write_text("repository: {url: /system}\nnode: a\n", encoding="utf-8")
    user = tmp_path / "xdg" / "rokctl" / "config.yaml"
    user.parent.mkdir(parents=True)
    user.write_text("repository: {url: /user}\n", encoding="utf-8")
    files = {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}

    config = read_config(files, system_file=system)
    assert (config.repository.url, config.node) == ("/user", "a")
    config = read_config({**files, "ROKCTL_REPOSITORY": "/environment"}, system_file=system)
    assert (config.repository.url, config.node) == ("/environment", "a")


def test_a_named_file_is_read_instead_of_the_default_ones(tmp_path):
    system = tmp_path / "system.yaml"
    system.write_text("node: a\n", encoding="utf-8")
    named = tmp_path / "named.yaml"
    named.write_text("repository: {url: /named}\n", encoding="utf-8")
    config = read_config({"ROKCTL_CONFIG": str(named)}, system_file=system)
    assert (config.repository.url, config.node) == ("/named", None)


def test_a_named_file_that_is_missing_is_not_found(tmp_path):
    with pytest.raises(NotFound, match="there is no configuration file"):
        read_config({}, tmp_path / "none.yaml")


def test_a_later_password_command_takes_back_an_earlier_password_file(tmp_path):
    config = read("repository: {password_file: /p}\n", tmp_path, {"ROKCTL_PASSWORD_COMMAND": "pass show rok"})
    assert config.repository.password_file is None
    assert config.repository.password_command == "pass show rok"


def test_a_later_key_file_takes_back_an_earlier_passphrase(tmp_path):
    config = read("repository: {password_command: pass}\n", tmp_path, {"ROKCTL_KEY_FILE": "/k"})
    assert (config.repository.password_command, config.repository.key_file) == (None, Path("/k"))


def test_relative_paths_are_meant_from_the_folder_of_the_file(tmp_path):
    config = read("repository: {password_file: passphrase}\n", tmp_path)
    assert config.repository.password_file == tmp_path / "passphrase"


def test_override_sets_nested_and_top_keys_and_leaves_the_rest():
    config = override(Config(), {"repository.url": "/a", "node": "n"})
    assert (config.repository.url, config.node) == ("/a", "n")
    assert override(config, {"limits.read": 5}).repository.url == "/a"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "repository:\n  url2: x\n",
            r"repository\.url2 in .*config\.yaml:2 is unknown",
            "did you mean repository.url?",
        ),
        ("repo: x\n", r"repo in .*:1 is unknown", ""),
        ("repository: /srv/repo\n", r"repository in .*:1 must be a mapping", "rok-config"),
        ("- a\n- b\n", r"the file in .*:1 must be a mapping", "rok-config"),
        ("node: 17\n", r"node in .*:1 must be text, not 17", "quotes"),
        ("node: ''\n", r"node in .*:1 is empty", ""),
        ("node: a\nnode: b\n", r"node is set twice, again in .*:2", ""),
        ("push: {compression: fast}\n", r"push\.compression in .* must be a whole number from 1 to 19", ""),
        ("push: {compression: 20}\n", r"from 1 to 19, not 20", ""),
        ("push: {compression: true}\n", r"from 1 to 19, not True", ""),
        ("push: {labels: [a]}\n", r"push\.labels in .* must be a mapping", ""),
        ("limits: {read: quick}\n", r"limits\.read in .* must be a size, not 'quick'", "64KiB"),
        ("limits: {read: 0}\n", r"limits\.read in .* must be more than 0", ""),
        ("limits: {read: 1.5}\n", r"limits\.read in .* must be a size", ""),
        ("repository: {password_file: a, password_command: b}\n", r"sets both repository\.password_file and", ""),
        (
            "repository: {key_file: a, password_command: b}\n",
            r"both repository\.password_command and repository\.key",
            "",
        ),
        ("a: [\n", r"config\.yaml:\d+ is not valid", ""),
        ("node: !!python/object/apply:os.system ['true']\n", r"not plain YAML", ""),
        ("\x00", r"is not valid", ""),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(tmp_path, text, message, hint):
    with pytest.raises(Refused, match=message) as caught:
        read(text, tmp_path)
    assert hint in caught.value.hint


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "config.yaml").write_bytes(b"node: \xff\n")
    with pytest.raises(Refused, match="cannot be read"):
        read_config({}, tmp_path / "config.yaml")
