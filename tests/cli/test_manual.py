"""The manual and the code say the same: commands, options, exit codes, errors, variables, configuration keys."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from commandtree import EVERYWHERE, PROGRAM, commands, kalec_commands

from engine import config, errors
from engine.errors import RokError
from rokctl.cli import EXIT_CODES, INTERRUPTED, TERMINATED

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "man").glob("*.[157]"))


def source(name: str) -> str:
    return (ROOT / "man" / name).read_text(encoding="utf-8")


def plain(roff: str) -> str:
    """The text of a page without fonts and escapes."""
    return re.sub(r"\\f[BIRP]|\\&|^\.[BIR]+ ", "", roff.replace("\\-", "-"), flags=re.MULTILINE).replace('"', "")


def section(page: str, title: str) -> str:
    """What stands between one .SH and the next."""
    return re.split(rf'^\.SH "?{title}"?$', page, flags=re.MULTILINE)[1].split("\n.SH ")[0]


def tagged(text: str) -> list[str]:
    """The tags of the .TP and .TQ paragraphs."""
    return [plain(line).strip() for line in re.findall(r"^\.T[PQ]\n(.+)$", text, flags=re.MULTILINE)]


def documented_commands() -> dict[str, set[str]]:
    """`pool create` -> its options, from COMMANDS of the page."""
    found = {}
    for part in section(source("rokctl.1"), "COMMANDS").split("\n.SS rokctl ")[1:]:
        words = re.match(r"[a-z ]*[a-z]", part)[0]
        found[words] = {tag.split()[0] for tag in tagged(part) if tag.startswith("--")}
    return found


def test_every_command_and_its_options_are_in_the_manual_and_no_other():
    assert documented_commands() == commands()


def test_the_options_that_stand_everywhere_are_in_the_manual():
    tags = tagged(section(source("rokctl.1"), "OPTIONS THAT STAND EVERYWHERE"))
    assert {tag.split()[0] for tag in tags} == EVERYWHERE | PROGRAM


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_a_page_names_exists(page):
    every = {**commands(), **kalec_commands()}
    known = EVERYWHERE | PROGRAM | {option for options in every.values() for option in options}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", plain(page.read_text(encoding="utf-8"))))
    ours = {option for option in named if option not in FOREIGN_OPTIONS}
    assert ours <= known


FOREIGN_OPTIONS = {"--reportformat"}  # of the LVM tools


def test_every_exit_code_and_error_class_is_in_the_manual():
    text = section(source("rokctl.1"), "EXIT STATUS")
    codes = {int(tag) for tag in tagged(text)}
    assert codes == {0, INTERRUPTED, TERMINATED, *EXIT_CODES.values()}
    for kind, code in EXIT_CODES.items():
        if kind is not RokError:
            paragraph = text.split(f".B {code}\n")[1].split(".TP")[0]
            assert f"({kind.__name__})" in paragraph


def test_every_error_class_has_an_exit_code_of_its_own():
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RokError)}
    assert kinds == set(EXIT_CODES)


def test_every_environment_variable_is_in_the_manual_and_no_other():
    code = "\n".join(
        path.read_text(encoding="utf-8") for folder in ("engine", "rokctl") for path in (ROOT / folder).rglob("*.py")
    )
    used = set(re.findall(r"\bROKCTL_[A-Z_]+", code))
    documented = {tag for tag in tagged(section(source("rokctl.1"), "ENVIRONMENT")) if tag.startswith("ROKCTL_")}
    assert documented == used


def test_every_configuration_key_is_in_the_manual_and_no_other():
    assert tagged(section(source("rok-config.5"), "KEYS")) == config.known_keys()


def test_the_manual_is_of_this_version():
    from rokctl import VERSION

    for page in PAGES:
        assert f'"rokctl {VERSION}"' in page.read_text(encoding="utf-8")


def test_the_programs_are_of_the_version_of_the_package():
    import tomllib

    import kalec
    import rokctl

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {rokctl.VERSION, kalec.VERSION} == {project["version"]}


@pytest.mark.skipif(shutil.which("man") is None, reason="needs the program man")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_renders_without_a_warning(page):
    shown = subprocess.run(["man", "--warnings=all", "-l", str(page)], capture_output=True, text=True, check=True)
    assert shown.stderr == ""
    assert "DESCRIPTION" in shown.stdout
