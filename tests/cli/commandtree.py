"""The command line as it is in the code: each command's words and its own options. That of kalec has a manual of its own."""

from collections.abc import Iterator
from typing import Any

import typer

from rokctl.cli import app

EVERYWHERE = {"--repo", "--password-file", "--key-file", "--config", "--json", "--quiet", "--no-wait", "--help"}
PROGRAM = {"--version", "--install-completion", "--show-completion"}


def commands() -> dict[str, set[str]]:
    """`pool create` -> {"--dir", …}, for each command that does something, without the options that stand everywhere."""
    own = dict(_walk(typer.main.get_command(app), ()))
    return {words: options for words, options in own.items() if not words.startswith("kalec ")} | {"kalec": set()}


def kalec_commands() -> dict[str, set[str]]:
    """The same for `kalec`: `lint` -> {"--format", …}."""
    own = dict(_walk(typer.main.get_command(app), ()))
    return {words.removeprefix("kalec "): options for words, options in own.items() if words.startswith("kalec ")}


def parameters() -> Iterator[tuple[str, Any]]:
    """Every argument and option of every command, kalec's too: the words of the command, and what the parser knows of it."""
    for words, node, context in _leaves(typer.main.get_command(app), ()):
        for parameter in node.get_params(context):
            yield " ".join(words), parameter


def _walk(node: Any, words: tuple[str, ...]) -> Iterator[tuple[str, set[str]]]:
    for path, leaf, context in _leaves(node, words):
        options = {
            option for parameter in leaf.get_params(context) for option in parameter.opts if option.startswith("--")
        }
        # The options that stand everywhere are those of rokctl; a command of kalec has its own of the same names.
        yield " ".join(path), options - (PROGRAM | {"--help"} if path[0] == "kalec" else EVERYWHERE | PROGRAM)


def _leaves(node: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, typer.Context]]:
    context = typer.Context(node, info_name=words[-1] if words else "rokctl")
    children = node.list_commands(context) if hasattr(node, "list_commands") else []
    for name in children:
        yield from _leaves(node.get_command(context, name), (*words, name))
    if words and not children:
        yield words, node, context
