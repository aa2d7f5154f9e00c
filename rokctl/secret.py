"""Where the secret of a repository comes from: files, a program, the environment, or a person at a terminal."""

import os
import shlex
import subprocess  # noqa: TID251 - the passphrase program is the user's own, and no device is concerned
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.config import RepositoryConfig
from engine.errors import Failed, NotFound, Refused, RokError, WrongKey
from engine.values import dataclass

if TYPE_CHECKING:
    from engine.repo.keyblob import Secret
    from engine.repo.paper import PaperKey

_NEW_SOURCES: Final = "give --new-password-file or --new-key-file"
_PAPER_LIMIT: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Role:
    """Which of the repositories of a command a secret is for, and how it may be given: `variable` holds a passphrase itself."""

    repository: str
    variable: str
    hint: str


REPOSITORY: Final = Role(
    "the repository",
    "ROKCTL_PASSWORD",
    "give --password-file or --key-file, or set ROKCTL_PASSWORD_FILE, ROKCTL_KEY_FILE or ROKCTL_PASSWORD_COMMAND",
)
DESTINATION: Final = Role(
    "the repository to copy to",
    "ROKCTL_TO_PASSWORD",
    "give --to-password-file or --to-key-file, or set ROKCTL_TO_PASSWORD_FILE, ROKCTL_TO_KEY_FILE or "
    "ROKCTL_TO_PASSWORD_COMMAND",
)


def read_secret(
    config: RepositoryConfig, environment: Mapping[str, str], *, role: Role = REPOSITORY, confirm: bool = False
) -> "Secret":
    """The secret that opens a repository: the key file of the configuration, else the passphrase.

    Raises as `read_passphrase`.
    """
    from engine.repo.keyblob import passphrase_secret

    if config.key_file is not None:
        return _read_key_file(config.key_file, role.hint)
    return passphrase_secret(read_passphrase(config, environment, role=role, confirm=confirm))


def secret_at_hand(config: RepositoryConfig) -> "Secret | None":
    """The secret that nobody need be asked for: of the key file of the configuration.

    None without one, where it cannot be read, which `read_secret` tells of, and for a pipe, which can be read but once.
    """
    path = config.key_file
    with suppress(RokError, OSError):
        return _read_key_file(path, "") if path is not None and path.is_file() else None
    return None


def read_passphrase(
    config: RepositoryConfig, environment: Mapping[str, str], *, role: Role = REPOSITORY, confirm: bool = False
) -> str:
    """The passphrase, from the first of: the file or the program of the configuration, ROKCTL_PASSWORD, a terminal.

    With `confirm` a person types it twice. Raises NotFound, Refused or Failed where the source gives none; Refused where
    there is no source, and no terminal to ask at.
    """
    if config.password_file is not None:
        return _read_file(config.password_file, role.hint)
    if config.password_command is not None:
        return _run(config.password_command, environment)
    if environment.get(role.variable):
        return environment[role.variable]
    if not _has_terminal():
        raise Refused(f"{role.repository} is encrypted, and no passphrase was given", hint=role.hint)
    return _ask(f"passphrase of {role.repository}", role.hint, confirm=confirm)


def read_new_secret(password_file: Path | None, key_file: Path | None) -> "Secret":
    """The secret of a key to be made, from one of the files, or from a person who types a passphrase twice.

    Raises NotFound, Refused.
    """
    from engine.repo.keyblob import passphrase_secret

    if key_file is not None:
        return _read_key_file(key_file, _NEW_SOURCES)
    if password_file is not None:
        return passphrase_secret(_read_file(password_file, _NEW_SOURCES))
    if not _has_terminal():
        raise Refused("no new passphrase was given", hint=_NEW_SOURCES)
    return passphrase_secret(_ask("new passphrase", _NEW_SOURCES, confirm=True))


def write_key_file(path: Path, content: bytes) -> None:
    """Write a new key file, for its owner alone, and to the disk. An interruption is raised when it stands.

    Raises Refused, Failed; then there is none.
    """
    from engine.hand import shielded

    shielded(lambda: _write_new(path, content))


def _write_new(path: Path, content: bytes) -> None:
    from engine.device.blockio import sync_directory

    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise Refused(f"{path} exists", hint="a key file is never written over: name another one") from error
    except OSError as error:
        raise Refused(f"the key file {path} cannot be made: {error.strerror}", hint="name another folder") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # it may soon be all that opens a repository
    except OSError as error:
        path.unlink(missing_ok=True)
        raise Failed(f"the key file {path} cannot be written: {error.strerror}", hint="make room for it") from error
    with suppress(RokError):  # some filesystems know no such thing, and some folders may not be read: the file is there
        sync_directory(path.parent)


def read_paper(path: Path) -> "PaperKey":
    """The paper copy that someone typed into a file. Raises NotFound, Refused."""
    from engine.repo.paper import parse_paper

    hint = "type the numbered lines of the paper into a file, and name it with --from-paper"
    return parse_paper(_read_bytes(path, "paper copy", _PAPER_LIMIT, hint).decode("ascii", "replace"))


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _read_key_file(path: Path, hint: str) -> "Secret":
    from engine.repo.keyblob import KEY_FILE_LIMIT, key_file_secret

    return key_file_secret(_read_bytes(path, "key file", KEY_FILE_LIMIT, hint))


def _read_bytes(path: Path, what: str, limit: int, hint: str) -> bytes:
    """All of a file; of one that is larger, or has no end, one byte more than the limit, so that it is found out."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no {what} {path}", hint=hint) from error
    except OSError as error:
        raise Refused(f"the {what} {path} cannot be read: {error.strerror}", hint=hint) from error


def _read_file(path: Path, hint: str) -> str:
    """The passphrase in a file. No message may quote a byte of it, which those of the codec do."""
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError as error:
        raise NotFound(f"there is no passphrase file {path}", hint=hint) from error
    except OSError as error:
        raise Refused(f"the passphrase file {path} cannot be read: {error.strerror}", hint=hint) from error
    except UnicodeDecodeError:
        raise Refused(f"the passphrase file {path} is not UTF-8", hint="is it a key file? that is --key-file") from None
    return _not_empty(text, f"the passphrase file {path}")


def _run(command: str, environment: Mapping[str, str]) -> str:
    """Standard error stays the user's, so that a program may say why, or ask for a touch of a key."""
    try:
        done = subprocess.run(  # noqa: S603 - the user's own program, and no shell
            shlex.split(command),
            stdout=subprocess.PIPE,
            check=False,
            env=dict(environment),
        )
    except (OSError, ValueError, IndexError) as error:
        raise Failed(
            f"the passphrase command {command!r} cannot be run: {error}", hint="correct the command"
        ) from error
    if done.returncode:
        raise Failed(
            f"the passphrase command {command!r} ended with {done.returncode}", hint="run it by hand to see why"
        )
    try:
        text = done.stdout.decode()
    except UnicodeDecodeError:  # not chained: its message quotes a part of the passphrase
        raise Failed(f"the passphrase command {command!r} printed what is not UTF-8", hint="correct it") from None
    return _not_empty(text, f"the output of the passphrase command {command!r}")


def _ask(what: str, hint: str, *, confirm: bool) -> str:
    from getpass import getpass

    try:
        passphrase = getpass(f"{what}: ", sys.stderr)
        if confirm and getpass("the same again: ", sys.stderr) != passphrase:
            raise WrongKey("the two passphrases differ", hint="run the command again")
    except EOFError as error:
        raise Refused("no passphrase was given", hint=hint) from error
    return _not_empty(passphrase, "the passphrase")


def _not_empty(text: str, what: str) -> str:
    """Without the line end that editors and `echo` leave; anything else belongs to the passphrase."""
    passphrase = text.removesuffix("\n").removesuffix("\r")
    if not passphrase:
        raise Refused(
            f"{what} is empty", hint="a repository without a passphrase is made with `rokctl repo init --no-encryption`"
        )
    return passphrase
