"""The command line as it is in the code: each command's words and its own options."""

from collections.abc import Iterator
from typing import Any

import typer

from rokctl.cli import app

EVERYWHERE = {"--repo", "--password-file", "--key-file", "--config", "--json", "--quiet", "--no-wait", "--help"}
PROGRAM = {"--version", "--install-completion", "--show-completion"}


def commands() -> dict[str, set[str]]:
    """`pool create` -> {"--dir", …}, for each command that does something, without the options that stand everywhere."""
    return dict(_walk(typer.main.get_command(app), ()))


def _walk(node: Any, words: tuple[str, ...]) -> Iterator[tuple[str, set[str]]]:
    context = typer.Context(node, info_name=words[-1] if words else "rokctl")
    elsewhere = words == ("kalec",)  # its commands stand in kalec(1)
    children = node.list_commands(context) if hasattr(node, "list_commands") and not elsewhere else []
    for name in children:
        yield from _walk(node.get_command(context, name), (*words, name))
    if words and not children:
        options = {
            option for parameter in node.get_params(context) for option in parameter.opts if option.startswith("--")
        }
        yield " ".join(words), options - EVERYWHERE - PROGRAM
