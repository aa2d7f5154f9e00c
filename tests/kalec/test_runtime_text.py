"""The text of the runtime is the program of its parts, without what only a reader of the parts needs."""

import ast
from pathlib import Path

from kalec import runtime
from kalec.runtime.packing import PARTS, joined


def normal(text):
    """The statements of a program, without docstrings, `pass`, and imports of kalec's own and of the future."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [statement for statement in node.body if not is_left_out(statement)]
    return [ast.dump(statement) for statement in tree.body]


def is_left_out(statement):
    if isinstance(statement, ast.ImportFrom):
        return (statement.module or "").partition(".")[0] in ("kalec", "__future__")
    is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass) or (is_text and isinstance(statement.value.value, str))


def test_what_travels_packed_is_the_text_of_the_parts_as_they_are():
    assert runtime.source_text() == joined(), "a part was changed: run python -m kalec.runtime.packing"


def test_the_text_is_the_program_of_the_parts_one_after_the_other():
    folder = Path(runtime.__file__).parent
    parts = [normal((folder / f"{name}.py").read_text(encoding="utf-8")) for name in PARTS]

    assert normal(runtime.source_text()) == [statement for part in parts for statement in part]


def test_the_text_has_no_comments_and_no_docstrings():
    lines = runtime.source_text().splitlines()[1:]

    assert not [line for line in lines if line.lstrip().startswith(("#", '"""'))]
