"""kalec(1) and the code say the same: commands, options, rules, exit codes."""

import re
from pathlib import Path

import typer

from kalec.cli import COMMANDS, INTERRUPTED, app
from kalec.errors import EXIT_CODES, KalecError
from kalec.findings import RULES
from kalec.vocabulary import _SETTINGS, Role

PAGE = (Path(__file__).parents[2] / "man" / "kalec.1").read_text(encoding="utf-8").replace("\\-", "-")


def section(title):
    return re.split(rf'^\.SH "?{title}"?$', PAGE, flags=re.MULTILINE)[1].split("\n.SH ")[0]


def options_of(node, words=()):
    """`runs show` -> its options, for each command that does something."""
    context = typer.Context(node, info_name="kalec")
    if hasattr(node, "list_commands"):
        for name in node.list_commands(context):
            yield from options_of(node.get_command(context, name), (*words, name))
    else:
        options = {word for one in node.get_params(context) for word in one.opts if word.startswith("--")}
        yield " ".join(words), options - {"--help"}


def test_every_command_and_its_options_are_in_the_manual_and_no_other():
    documented = {}
    for part in section("COMMANDS").split("\n.SS kalec ")[1:]:
        words = re.match(r"[a-z ]*[a-z]", part)[0]
        documented[words] = set(re.findall(r"^\.BI? (--[a-z-]+)", part, flags=re.MULTILINE))
    actual = dict(options_of(typer.main.get_command(app)))
    assert documented == actual
    assert {words.split()[0] for words in actual} == COMMANDS.keys()


def test_every_rule_is_in_the_manual_with_its_severity_and_title():
    documented = re.findall(r'^\.BR (KLC\d+) " \((\w+)\): (.+)"$', section("RULES"), flags=re.MULTILINE)
    assert documented == [(code, rule.severity.value, rule.title) for code, rule in sorted(RULES.items())]


def test_every_exit_code_and_error_is_in_the_manual():
    text = section("EXIT STATUS")
    assert {int(code) for code in re.findall(r"^\.B (\d+)$", text, flags=re.MULTILINE)} == {
        0,
        INTERRUPTED,
        *EXIT_CODES.values(),
    }
    for kind, code in EXIT_CODES.items():
        if kind is not KalecError:
            assert f"({kind.__name__})" in text.split(f".B {code}\n")[1].split(".TP")[0]


def test_every_tag_is_in_the_manual():
    tags = section("TAGS")
    for word in [*_SETTINGS, *(role.value for role in Role), "prev", "block"]:
        assert re.search(rf"\b{word}\b", tags), word
