"""`rokctl repo key`: who can open a repository."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import Refused
from rokctl.options import DryRunOption, command, noun
from rokctl.render import plain
from rokctl.wiring import Session

if TYPE_CHECKING:
    from engine.ops.keys import KeyEntry

app = noun("The keys of a repository: passphrases and key files that open it.")

NewPasswordFileOption = Annotated[
    Path | None, typer.Option("--new-password-file", metavar="FILE", help="The file that holds the new passphrase.")
]
NewKeyFileOption = Annotated[
    Path | None, typer.Option("--new-key-file", metavar="FILE", help="The new key file: all of its bytes count.")
]
KeyArgument = Annotated[str, typer.Argument(metavar="ID", help="The key's id, or its first four or more digits.")]


@command(app, "add")
def add(
    session: Session,
    new_password_file: NewPasswordFileOption = None,
    new_key_file: NewKeyFileOption = None,
    label: Annotated[str, typer.Option("--label", metavar="TEXT", help="What the key is called in the list.")] = "",
    from_paper: Annotated[
        Path | None, typer.Option("--from-paper", metavar="FILE", help="Come in by the paper copy, typed into a file.")
    ] = None,
) -> None:
    """Let another passphrase or key file open the repository."""
    from engine.repo.keyblob import check_label
    from rokctl.secret import read_new_secret

    _refuse_both(new_password_file, new_key_file)
    check_label(label)
    if from_paper is not None and (session.flags.password_file or session.flags.key_file):
        given = "--password-file" if session.flags.password_file else "--key-file"
        raise Refused(f"both --from-paper and {given} were given", hint="come in by one of them")
    with session.repository(uses="engine.ops.keys", paper=from_paper) as repository:
        from engine.ops.keys import Keys

        keys = Keys(repository)
        made = keys.add(read_new_secret(new_password_file, new_key_file), label=label)
    outcome = made.outcome.value
    session.output.result(f"key {_named(made.item)}: {outcome}", {"outcome": outcome, **plain(made.item)})


@command(app, "generate")
def generate(
    session: Session, file: Annotated[Path, typer.Argument(metavar="FILE", help="Where: a name that is free.")]
) -> None:
    """Make a key file of 256 random bits, for `repo init --key-file` or `repo key add --new-key-file`."""
    from engine.repo.keyblob import generate_key_file
    from rokctl.secret import write_key_file

    write_key_file(file, generate_key_file(session.world.entropy))
    session.output.result(f"key file {file}: created", {"outcome": "created", "file": str(file)})


@command(app, "list")
def list_keys(session: Session) -> None:
    """List the keys, oldest first, and name the one in use."""

    with session.repository(uses="engine.ops.keys") as repository:
        from engine.ops.keys import Keys

        found = Keys(repository).entries()
    session.output.listing(
        found,
        {
            "KEY": lambda key: key.id,
            "KIND": lambda key: key.kind,
            "LABEL": lambda key: key.label,
            "CREATED": lambda key: key.created,
            "DERIVATION": lambda key: key.derivation,
            "STATE": lambda key: key.state,
            "IN USE": lambda key: key.in_use,
        },
    )


@command(app, "remove")
def remove(session: Session, key: KeyArgument, dry_run: DryRunOption = False) -> None:
    """Remove a key, but never the one in use."""

    with session.repository(uses="engine.ops.keys") as repository:
        from engine.ops.keys import Keys

        keys = Keys(repository)
        if dry_run:
            found = keys.find(key)
            keys.check_removable(found)
            session.output.result(f"key {_named(found)}: would be removed", {"would": "remove", **plain(found)})
            return
        removed, outcome = keys.remove(key)
    session.output.result(f"key {removed}: {outcome.value}", {"outcome": outcome, "id": removed})


@command(app, "change")
def change(
    session: Session, new_password_file: NewPasswordFileOption = None, new_key_file: NewKeyFileOption = None
) -> None:
    """Replace the key in use."""
    from rokctl.secret import read_new_secret

    _refuse_both(new_password_file, new_key_file)
    with session.repository(uses="engine.ops.keys") as repository:
        from engine.ops.keys import Keys

        keys, old = Keys(repository), repository.key
        new = keys.change(read_new_secret(new_password_file, new_key_file))
    if new.id == old:
        session.output.result(f"key {_named(new)}: already there", {"outcome": "already there", **plain(new)})
        return
    record = {"outcome": "changed", "removed": old, **plain(replace(new, in_use=True))}
    session.output.result(f"key {old}: changed, and is now {_named(new)}", record)


@command(app, "export")
def export(session: Session) -> None:
    """Print the master key as a page to be kept on paper."""
    from engine.repo.paper import paper_lines, paper_text

    with session.repository(uses="engine.ops.keys") as repository:
        from engine.ops.keys import Keys

        paper, url = Keys(repository).paper(), repository.url
    if session.output.as_json:
        session.output.result("", {"id": paper.repository_id, "url": url, "lines": paper_lines(paper)})
        return
    typer.echo(paper_text(paper, url, session.world.clock.now()), nl=False)


def _refuse_both(password_file: Path | None, key_file: Path | None) -> None:
    if password_file is not None and key_file is not None:
        raise Refused("both --new-password-file and --new-key-file were given", hint="give one, or run it twice")


def _named(key: "KeyEntry") -> str:
    """The id, and what the key is, for people."""
    kind = key.kind.value if key.kind else key.state.value
    return f"{key.id} ({kind}, {key.label})" if key.label else f"{key.id} ({kind})"
