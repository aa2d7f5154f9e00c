"""The manual has every option of `kalec run` and `kalec runs`."""

import re
from pathlib import Path

import pytest
import typer

from kalec.cli import app

MANUAL = (Path(__file__).parents[2] / "man" / "kalec.1").read_text()


def sections():
    parts = re.split(r"^\.SS kalec ", MANUAL.split("\n.SH COMMANDS", 1)[1].split("\n.SH ", 1)[0], flags=re.M)[1:]
    return {part.splitlines()[0]: part.replace("\\-", "-") for part in parts}


def commands():
    root = typer.main.get_command(app)
    yield "run SOURCE", root.get_command(None, "run")
    for name, command in root.get_command(None, "runs").commands.items():
        yield f"runs {name}", command


@pytest.mark.parametrize(
    ("name", "command"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_option_is_in_the_manual(name, command):
    text = next(part for title, part in sections().items() if title.startswith(name))
    for option in command.params:
        for word in (word for word in option.opts if word.startswith("--") and word != "--help"):
            assert re.search(rf"^\.TP\n\.BI? {word}\b", text, re.M), f"{name} {word}"
