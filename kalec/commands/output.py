"""Where the YAML of a command goes: into a file, to standard output, or beside the file that is checked."""

import sys
from pathlib import Path

import typer


def put(text: str, output: str, otherwise: Path, *, check: bool, source: str) -> None:
    """Write one text to `output`, "-" being standard output and "" `otherwise`; or hold it against what is there.

    Raises Failed (stale, cannot be written), NotFound (nothing to check), Refused, OutOfSpace.
    """
    from kalec.emit.files import stale_lines, write_text
    from kalec.errors import Failed, Refused

    if output == "-":
        if check:
            raise Refused("standard output has nothing to check against", hint="name a file with -o")
        sys.stdout.buffer.write(text.encode())
        return
    target = Path(output) if output else otherwise
    if not check:
        write_text(target, text)
        return
    difference = stale_lines(text, target, source)
    typer.echo("".join(difference), nl=False)
    if difference:
        raise Failed(f"{target} is stale", hint="write it again, and commit it")
