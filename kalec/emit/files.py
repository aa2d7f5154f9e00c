"""Writing what was compiled, and holding it against what is committed."""

import os
from collections.abc import Iterable
from contextlib import suppress
from difflib import unified_diff
from errno import EDQUOT, ENOSPC
from pathlib import Path

from kalec.errors import Failed, NotFound, OutOfSpace


def stale_lines(text: str, target: Path, source: str) -> list[str]:
    """The differences, as `diff -u`, between the file and what it should be; none when it is up to date.

    `source` says what the text was made from. Raises NotFound, Failed.
    """
    try:
        committed = target.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        raise NotFound(f"there is no file {target} to check", hint=f"write it with -o {target}") from None
    except OSError as error:
        raise Failed(f"{target} cannot be read: {error.strerror}") from None
    return list(
        unified_diff(
            committed.splitlines(keepends=True),
            text.splitlines(keepends=True),
            f"{target} (committed)",
            f"{target} (from {source})",
        )
    )


def write_text(target: Path, text: str) -> bool:
    """Replace a file in one instant, and say whether it had to be: one that is right is left alone.

    Raises what `replace_file` raises.
    """
    content = text.encode()
    try:
        if target.is_file() and target.read_bytes() == content:
            return False
    except OSError as error:
        raise Failed(f"{target} cannot be read: {error.strerror}") from None
    replace_file(target, [content])
    return True


def replace_file(target: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Replace a file in one instant: a reader sees the old content or the new one, and after a crash there is one of them.

    A pipe or a device (/dev/null) is written to. Raises NotFound (its folder), Failed, OutOfSpace; then the file is as it was.
    """
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            with target.open("wb") as stream:
                stream.writelines(pieces)
        else:
            _replace(target.resolve(), pieces)  # a link stays one
    except FileNotFoundError:
        raise NotFound(f"the folder of {target} does not exist") from None
    except OSError as error:
        kind = OutOfSpace if error.errno in (ENOSPC, EDQUOT) else Failed
        raise kind(f"{target} cannot be written: {error.strerror}") from None


def _replace(target: Path, pieces: Iterable[bytes | memoryview]) -> None:
    new = target.with_name(f".{target.name[:200]}.{os.urandom(6).hex()}")
    known = target.stat().st_mode & 0o777 if target.exists() else None
    # Not even for a moment may it be read by more people than before; a file that was not there gets what the umask leaves.
    handle = os.open(
        new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666 if known is None else known & 0o700
    )
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.writelines(pieces)
            stream.flush()
            os.fsync(handle)
        if known is not None:
            new.chmod(known)
        new.replace(target)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise
