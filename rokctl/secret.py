"""Where the passphrase of a repository comes from: a file, a program, the environment, or a person at a terminal."""

import getpass
import shlex
import subprocess  # noqa: TID251 - the passphrase program is the user's own, and no device is concerned
import sys
from collections.abc import Mapping
from pathlib import Path

from engine.config import RepositoryConfig
from engine.errors import Failed, NotFound, Refused, WrongKey

_SOURCES = "give --password-file, or set ROKCTL_PASSWORD_FILE or ROKCTL_PASSWORD_COMMAND"


def read_passphrase(config: RepositoryConfig, environment: Mapping[str, str], *, confirm: bool = False) -> str:
    """The passphrase, from the first of: the file or the program of the configuration, ROKCTL_PASSWORD, a terminal.

    With `confirm` a person types it twice. Raises NotFound, Refused or Failed where the source gives none; Refused where
    there is no source, and no terminal to ask at.
    """
    if config.password_file is not None:
        return _read_file(config.password_file)
    if config.password_command is not None:
        return _run(config.password_command, environment)
    if environment.get("ROKCTL_PASSWORD"):
        return environment["ROKCTL_PASSWORD"]
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused("the repository is encrypted, and no passphrase was given", hint=_SOURCES)
    return _ask(confirm=confirm)


def _read_file(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"there is no passphrase file {path}", hint=_SOURCES) from error
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"the passphrase file {path} cannot be read: {error}", hint=_SOURCES) from error
    return _not_empty(text, f"the passphrase file {path}")


def _run(command: str, environment: Mapping[str, str]) -> str:
    """Standard error stays the user's, so that a program may say why, or ask for a touch of a key."""
    try:
        done = subprocess.run(  # noqa: S603 - the user's own program, and no shell
            shlex.split(command),
            stdout=subprocess.PIPE,
            check=False,
            env=dict(environment),
            text=True,
            encoding="utf-8",
        )
    except (OSError, ValueError, IndexError) as error:
        raise Failed(
            f"the passphrase command {command!r} cannot be run: {error}", hint="correct the command"
        ) from error
    if done.returncode:
        raise Failed(
            f"the passphrase command {command!r} ended with {done.returncode}", hint="run it by hand to see why"
        )
    return _not_empty(done.stdout, f"the output of the passphrase command {command!r}")


def _ask(*, confirm: bool) -> str:
    try:
        passphrase = getpass.getpass("passphrase of the repository: ", sys.stderr)
        if confirm and getpass.getpass("the same again: ", sys.stderr) != passphrase:
            raise WrongKey("the two passphrases differ", hint="run the command again")
    except EOFError as error:
        raise Refused("no passphrase was given", hint=_SOURCES) from error
    return _not_empty(passphrase, "the passphrase")


def _not_empty(text: str, what: str) -> str:
    """Without the line end that editors and `echo` leave; anything else belongs to the passphrase."""
    passphrase = text.removesuffix("\n").removesuffix("\r")
    if not passphrase:
        raise Refused(
            f"{what} is empty", hint="a repository without a passphrase is made with `rokctl repo init --no-encryption`"
        )
    return passphrase
