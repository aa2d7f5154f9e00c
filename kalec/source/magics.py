"""IPython's magics in a cell: left out, translated into Python, or refused with their place.

The lines of a cell stay where they are: what is translated takes as many lines as before, and what is left out is blank, so
a traceback of a step names the line of the notebook. Nothing that is translated binds a name of its own.
"""

import ast
import builtins
import re
import shlex
from collections.abc import Callable
from typing import Final, NamedTuple

from kalec.words import words

_CELL_MAGIC: Final = r"%%(\w+)[ \t]*(.*)"
_LINE_MAGIC: Final = r"(\s*)%(?!%)([A-Za-z_]\w*)[ \t]*(.*)"
_SHELL: Final = r"(\s*)!!?(?!=)(.+)"
_ASSIGNED: Final = r"(\s*)([A-Za-z_][\w., \[\]\"']*?)[ \t]*=[ \t]*([%!])(?!=)(.+)"
_HELP: Final = r"\s*(\?{1,2}[\w.%*]+|[\w.%*\[\]\"']+\?{1,2})\s*;?"

# They set up the notebook, or show something: a step has nobody to show it to.
_LEFT_OUT: Final = words(
    """
    matplotlib load_ext reload_ext unload_ext autoreload aimport config precision who whos who_ls history hist debug
    pdb xmode colors pinfo pinfo2 pdef pdoc pfile psource timeit memit mprun lprun tensorboard watermark lsmagic
    magic quickref clear cls more less cat ls ll lx ldir pwd dirs notebook gui tb logstart logstop automagic
    alias_magic pprint page doctest_mode bookmark rehashx
    """
)
_STATEMENT_KEPT: Final = frozenset({"time", "prun", "memray_flamegraph"})  # they run the rest of the line
_CELLS_LEFT_OUT: Final = words(
    """
    timeit html HTML javascript js latex markdown svg SVG perl_doc mermaid
    """
)
_CELL_LINE_LEFT_OUT: Final = words("time prun memit mprun lprun capture")  # the body runs as it is
_SHELL_ALIASES: Final = words("mkdir rm cp mv rmdir ln touch man")
_PIP: Final = r"(?:python[\d.]*[ \t]+-m[ \t]+|\{sys\.executable\}[ \t]+-m[ \t]+)?pip[\d.]*[ \t]+install\b(.*)"
_PIP_QUIET: Final = r"\s*(?:1|2|&)?>>?\s*(?:/dev/null|&1)|\s*\|\s*(?:tail|grep|cat)\b.*$"
_PIP_WITH_VALUE: Final = words(
    """
    -i --index-url --extra-index-url -f --find-links --trusted-host --proxy --timeout --retries --cache-dir -t
    --target --root --prefix --log --progress-bar --exists-action --platform --python-version --no-binary
    --only-binary
    """
)


class Remark(NamedTuple):
    """What was done with a magic, or why it cannot be kept. Lines count from 1."""

    code: str  # KLC003, KLC004, KLC005 or KLC204
    line: int
    message: str
    hint: str = ""


class Translation:
    """A cell as plain Python."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.remarks: list[Remark] = []
        self.requirements: list[str] = []

    def remark(self, code: str, line: int, message: str, hint: str = "") -> None:
        self.remarks.append(Remark(code, line, message, hint))


def has_magics(source: str) -> bool:
    """Whether there is anything to translate: a cell that is Python has nothing."""
    return not _is_python(source)


def translate(source: str, names: frozenset[str] = frozenset()) -> Translation:
    """Make Python of a cell. `names` are those that the notebook binds anywhere: `$x` in a command is a variable then."""
    if _is_python(source):
        return Translation(source)
    lines = source.split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    found = re.fullmatch(_CELL_MAGIC, lines[first].strip())
    if found:
        return _cell_magic(lines, first, found[1], found[2], names)
    translation = Translation("")
    scanner = _Scanner()
    result: list[str] = []
    number = 0
    while number < len(lines):
        taken = 1
        if scanner.at_statement:
            while lines[number + taken - 1].endswith("\\") and number + taken < len(lines):
                taken += 1
        logical = _joined(lines[number : number + taken])
        replaced = _line(logical, number + 1, names, translation) if scanner.at_statement else None
        if replaced is None:
            taken = 1
            result.append(lines[number])
            scanner.feed(lines[number])
        else:
            result += [replaced] + [""] * (taken - 1)
        number += taken
    translation.source = "\n".join(_with_bodies(result))
    return translation


def _is_python(source: str) -> bool:
    try:
        compile(source, "<cell>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return False
    return True


def _joined(lines: list[str]) -> str:
    return " ".join([line.removesuffix("\\") for line in lines[:-1]] + lines[-1:]) if len(lines) > 1 else lines[0]


class _Scanner:
    """Knows, line by line, whether a statement may begin: not inside a string, nor inside brackets."""

    _PIECE: Final = r"(?s)'''|\"\"\"|'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|#.*|[()\[\]{}]|\\."

    def __init__(self) -> None:
        self.quote = ""
        self.depth = 0
        self.continued = False

    @property
    def at_statement(self) -> bool:
        return not self.quote and self.depth <= 0 and not self.continued

    def feed(self, line: str) -> None:
        token_in = re.compile(self._PIECE)
        position = 0
        while position < len(line):
            if self.quote:
                end = line.find(self.quote, position)
                while end > 0 and line[end - 1] == "\\":
                    end = line.find(self.quote, end + 1)
                if end < 0:
                    return
                position, self.quote = end + 3, ""
                continue
            token = token_in.search(line, position)
            if not token:
                break
            position = token.end()
            if token[0] in ("'''", '"""'):
                self.quote = token[0]
            elif token[0] in "([{":
                self.depth += 1
            elif token[0] in ")]}":
                self.depth -= 1
        self.continued = line.endswith("\\") and not self.quote


def _line(line: str, number: int, names: frozenset[str], translation: Translation) -> str | None:
    """The Python of a line with a magic; None for a line that has none."""
    if found := re.fullmatch(_LINE_MAGIC, line):
        return found[1] + _line_magic(found[2], found[3].strip(), number, names, translation)
    if found := re.fullmatch(_SHELL, line):
        return found[1] + _shell(found[2].strip(), number, names, translation)
    if (found := re.fullmatch(_ASSIGNED, line)) and _is_python(f"{found[2]} = 0"):
        value = _assigned(found[3], found[4].strip(), number, names, translation)
        return f"{found[1]}{found[2]} = {value}"
    if re.fullmatch(_HELP, line) and not _is_python(line.strip()):
        translation.remark("KLC004", number, f"{line.strip()!r} is help for a person, and is left out")
        return ""
    return None


def _line_magic(name: str, rest: str, number: int, names: frozenset[str], translation: Translation) -> str:
    if name in _LEFT_OUT:
        translation.remark("KLC004", number, f"%{name} is left out: it has no effect in a step")
        return ""
    if name in _STATEMENT_KEPT:
        statement = re.sub(r"^(-\w+(\s+\d+)?\s+)+", "", rest)
        translation.remark("KLC004", number, f"%{name} is left out, and what it runs is kept")
        return statement
    if name == "pip":
        return _pip(re.sub(r"^install\b", "", rest) if rest.startswith("install") else None, number, translation)
    if name in ("env", "set_env"):
        return _set_variable(rest, number, names, translation)
    if name == "cd":
        path = rest.removeprefix("-q").strip().strip("\"'") or "~"
        translation.remark("KLC005", number, "%cd is kept, for this step alone")
        return f'__import__("os").chdir(__import__("os").path.expanduser({_expanded(path, names)}))'
    if name in _SHELL_ALIASES:
        return _shell(f"{name} {rest}", number, names, translation)
    if name in ("sx", "system"):
        return _shell(rest, number, names, translation)
    return _refused(f"%{name}", number, translation)


def _refused(what: str, number: int, translation: Translation) -> str:
    hint = {
        "%run": "import the script as a module, or copy its code into a cell",
        "%load": "copy the code into the cell",
        "%store": "read and write a file on a volume, or use a step of this notebook",
        "%conda": "put the package into the image of the step",
        "%pylab": "import numpy and matplotlib by name",
    }.get(what, "write it as plain Python, or tag the cell skip")
    translation.remark("KLC003", number, f"{what} has no meaning outside of the notebook", hint)
    return "pass"


def _set_variable(rest: str, number: int, names: frozenset[str], translation: Translation) -> str:
    found = re.fullmatch(r"([A-Za-z_]\w*)(?:[ \t]*=[ \t]*|[ \t]+)(.+)", rest)
    if not found:
        translation.remark("KLC004", number, "%env is left out: it only shows variables")
        return ""
    translation.remark("KLC005", number, f"%env is kept: it sets {found[1]} for this step")
    return f'__import__("os").environ[{found[1]!r}] = {_expanded(found[2].strip(), names)}'


def _pip(rest: str | None, number: int, translation: Translation) -> str:
    """`pip install …`: its packages become requirements of the step."""
    if rest is None:
        translation.remark("KLC004", number, "%pip is left out: only `%pip install` says what a step needs")
        return ""
    try:
        words = shlex.split(re.sub(_PIP_QUIET, "", rest).split("#")[0])
    except ValueError:
        words = ["&"]
    packages: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in ("-r", "--requirement", "-c", "--constraint", "-e", "--editable") or any(
            c in word for c in "|&;`$"
        ):
            hint = "name the packages, or put them into the image of the step"
            translation.remark("KLC003", number, f"`pip install` with {word!r} cannot become requirements", hint)
            return "pass"
        elif word.startswith("-"):
            skip = word in _PIP_WITH_VALUE
        else:
            packages.append(word)
    for package in packages:
        if not re.search(r"[=<>~@]|://", package):
            message = f"`pip install {package}` says no version"
            translation.remark("KLC204", number, message, f"write {package}==VERSION, for the same run each time")
    translation.requirements += packages
    return ""


def _shell(command: str, number: int, names: frozenset[str], translation: Translation) -> str:
    found = re.fullmatch(_PIP, command)
    if found:
        return _pip(found[1], number, translation)
    translation.remark("KLC005", number, f"`!{command}` is kept, as a call of the shell")
    return f'__import__("subprocess").run({_expanded(command, names)}, shell=True, check=False)'


def _assigned(mark: str, rest: str, number: int, names: frozenset[str], translation: Translation) -> str:
    """What stands for `x = !command` and `x = %magic`."""
    if mark == "!":
        translation.remark("KLC005", number, f"`!{rest}` is kept, as a call of the shell")
        run = f'__import__("subprocess").run({_expanded(rest, names)}, shell=True, check=False, stdout=-1, text=True)'
        return f"{run}.stdout.splitlines()"
    name, _, argument = rest.partition(" ")
    if name == "env" and re.fullmatch(r"[A-Za-z_]\w*", argument.strip()):
        translation.remark("KLC005", number, "%env is kept: it reads a variable of the step")
        return f'__import__("os").environ[{argument.strip()!r}]'
    if name == "pwd" and not argument:
        translation.remark("KLC005", number, "%pwd is kept")
        return '__import__("os").getcwd()'
    _refused(f"%{name}", number, translation)
    return "None"


def _expanded(text: str, names: frozenset[str]) -> str:
    """A Python expression for a text in which IPython expands `{expression}` and `$name`."""
    pieces: list[str] = []
    literal = ""
    position = 0
    for found in re.finditer(r"\{\{|\}\}|\$\$|\{([^{}]+)\}|\$([A-Za-z_]\w*)", text):
        literal += text[position : found.start()]
        position = found.end()
        expression = found[1] if found[1] is not None else found[2]
        if expression is None:
            literal += found[0][0]
        elif _knows(expression, names):
            pieces += [repr(literal)] if literal else []
            pieces.append(f"str({expression.strip()})")
            literal = ""
        else:
            literal += found[0]
    literal += text[position:]
    if literal or not pieces:
        pieces.append(repr(literal))
    return " + ".join(pieces)


def _knows(expression: str, names: frozenset[str]) -> bool:
    """Whether an expression in a command is Python whose names the notebook has."""
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    made = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return bool(used) and used - made <= names | set(dir(builtins))


def _cell_magic(lines: list[str], first: int, name: str, rest: str, names: frozenset[str]) -> Translation:
    body = lines[first + 1 :]
    number = first + 1
    translation = Translation("")
    if name in _CELLS_LEFT_OUT:
        translation.remark("KLC004", number, f"the cell is left out: %%{name} leaves nothing behind")
        return translation
    if name in _CELL_LINE_LEFT_OUT:
        return _without_first_line(lines, first, name, names)
    make: Callable[[str, list[str], frozenset[str]], str] | None = None
    if name in ("bash", "sh") or (name == "script" and rest.split()[:1] in (["bash"], ["sh"])):
        make = _bash if name != "script" else lambda _rest, body, names: _bash("", body, names)
    elif name in ("writefile", "file"):
        make = _write_file
    python = make(name if make is _bash and not rest else rest, body, names) if make else ""
    if not python:
        _refused(f"%%{name}", number, translation)
        translation.source = "\n".join([""] * first + ["pass"])
        return translation
    translation.remark("KLC005", number, f"%%{name} is kept, as Python")
    translation.source = "\n".join([""] * first + [python])
    return translation


def _without_first_line(lines: list[str], first: int, name: str, names: frozenset[str]) -> Translation:
    inner = translate("\n".join([""] * (first + 1) + lines[first + 1 :]), names)
    inner.remarks.insert(0, Remark("KLC004", first + 1, f"%%{name} is left out, and the cell is kept"))
    return inner


def _bash(rest: str, body: list[str], names: frozenset[str]) -> str:
    """The shell fails the cell when the script fails, as in the notebook."""
    shell = "sh" if rest == "sh" else "bash"
    if rest not in ("", "sh", "bash", "-e", "--no-raise-error"):
        return ""
    check = "False" if rest == "--no-raise-error" else "True"
    return f'__import__("subprocess").run(["{shell}"], check={check}, text=True, input={_long_text(body)})'


def _write_file(rest: str, body: list[str], names: frozenset[str]) -> str:
    found = re.fullmatch(r"(-a\s+|--append\s+)?(\"[^\"]+\"|'[^']+'|\S+)", rest.strip())
    if not found:
        return ""
    named = _expanded(found[2].strip("\"'"), names)
    path = f'__import__("pathlib").Path({named})'
    before = f'({path}.read_text(encoding="utf-8") if {path}.exists() else "") + ' if found[1] else ""
    return f'{path}.write_text({before}{_long_text(body)}, encoding="utf-8")'


def _long_text(body: list[str]) -> str:
    """A literal that takes one line for each line of the text, and one before them."""
    escaped = [line.replace("\\", "\\\\").replace('"""', '\\"\\"\\"') for line in body]
    return '"""\\\n' + "\n".join(escaped) + '\\n"""'


def _with_bodies(lines: list[str]) -> list[str]:
    """A block from which everything was left out gets a `pass`."""
    result = list(lines)
    for number, line in enumerate(lines):
        if not re.search(r":\s*(#.*)?$", line) or not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        following = next((later for later in range(number + 1, len(lines)) if lines[later].strip()), None)
        blank = number + 1 < len(lines) and not lines[number + 1].strip()
        deeper = following is not None and len(lines[following]) - len(lines[following].lstrip()) > indent
        if blank and not deeper and _opens_block(line):
            result[number + 1] = " " * (indent + 4) + "pass"
    return result


def _opens_block(line: str) -> bool:
    return bool(re.match(r"\s*(if|for|while|with|try|else|elif|except|finally|def|class|async|match|case)\b", line))
