"""What the analysis says to the user about values and surroundings: what cannot travel, paths, secrets, module state."""

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Final

from kalec.analysis.checks import place_of
from kalec.analysis.definitions import Definition
from kalec.analysis.facts import Code, Facts
from kalec.analysis.names import Names
from kalec.analysis.scopes import Action, children, occurrences, walk
from kalec.analysis.travel import Travel
from kalec.analysis.versions import Kind
from kalec.findings import Findings
from kalec.model import Cell, Parameter, PipelineSettings
from kalec.words import words

# What a call gives that lives in one process alone.
_BOUND_TO_PROCESS: Final = {
    "open": "an open file",
    "io.open": "an open file",
    "gzip.open": "an open file",
    "threading.Lock": "a lock",
    "threading.RLock": "a lock",
    "threading.Thread": "a thread",
    "threading.Event": "a lock",
    "multiprocessing.Pool": "a pool of processes",
    "concurrent.futures.ThreadPoolExecutor": "a pool of threads",
    "concurrent.futures.ProcessPoolExecutor": "a pool of processes",
    "subprocess.Popen": "a process",
    "socket.socket": "a connection",
    "sqlite3.connect": "a connection",
    "psycopg2.connect": "a connection",
    "sqlalchemy.create_engine": "a connection",
    "csv.reader": "a reader of an open file",
    "csv.writer": "a writer of an open file",
    "tempfile.TemporaryDirectory": "a folder that goes with its process",
}
# Calls that change what a module keeps for the whole process.
_MODULE_STATE: Final = words(
    """
    os.chdir os.putenv os.environ.update os.environ.setdefault sys.path.append sys.path.insert random.seed numpy.random.seed
    torch.manual_seed torch.set_default_dtype tensorflow.random.set_seed pandas.set_option warnings.filterwarnings
    warnings.simplefilter matplotlib.use matplotlib.pyplot.style.use matplotlib.rcParams.update seaborn.set
    seaborn.set_theme seaborn.set_style locale.setlocale logging.basicConfig numpy.set_printoptions numpy.seterr
    """
)
_WRITERS: Final = words(
    "to_csv to_parquet to_json to_pickle to_excel to_feather savefig save savez save_model dump write_text"
)
_CONFIDENTIAL_NAME: Final = r"(?i)passw|passwd|secret|api_?key|access_?key|auth_?token|private_?key|credential"
_CONFIDENTIAL_VALUE: Final = (
    r"AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{20,}|xox[baprs]-[A-Za-z0-9-]{10,}|hf_[A-Za-z0-9]{30,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_PLACEHOLDER: Final = r"(?i)^(.{0,5}|[xX*.]+|<.*>|\$?\{.*\}|your[-_ ].*|change[-_ ]?me.*|todo.*|none|null)$"


def check_values(
    travel: Travel, parameters: tuple[Parameter, ...], settings: PipelineSettings, findings: Findings
) -> None:
    """Everything that is wrong with values and surroundings, in all steps."""
    for journey in travel.journeys.values():
        code, step = journey.draft.code, journey.draft.name
        for cell, node in _nodes(code):
            _check_secret(cell, node, findings)
            _check_module_state(travel, step, cell, node, code.names, findings)
        _check_definition_state(travel, step, findings)
        for name, use in journey.facts.uses.items():
            version = journey.entry.get(name)
            if version and version.kind is Kind.VALUE and use.is_real and version.bound:
                _check_travelling(travel, version.step, name, step, findings)
        for name in sorted(journey.facts.exits.keys() & {parameter.name for parameter in parameters}):
            sites = [origin for origin in journey.facts.exits[name] if origin >= 0]
            for site in sites[:1]:
                place = place_of(journey.facts.bound_in[site], journey.facts.bound_at[site])
                message = f"the parameter {name!r} is given a new value in step {step!r}; steps after it see that one"
                findings.add("KLC032", place, message)
    _check_kept_state(travel, findings)
    _check_paths(travel, settings, findings)
    for parameter in parameters:
        if isinstance(parameter.default, str):
            _check_secret_pair(parameter.name, parameter.default, parameter.place, findings)


def _nodes(code: Code) -> Iterator[tuple[Cell, ast.AST]]:
    for cell, statements in code.cells:
        for statement in statements:
            for node in walk(statement):
                yield cell, node


def _check_travelling(travel: Travel, maker: str, name: str, reader: str, findings: Findings) -> None:
    """A value that lives in one process alone, when every way of making it gives such a value."""
    journey = travel.journeys[maker]
    names = journey.draft.code.names
    values = [value for bound, _, value in journey.facts.effects.bindings if bound == name]
    kinds = [_process_bound(value, names, journey.facts.definitions) for value in values]
    if not kinds or not all(kinds):
        return
    for cell, statements in journey.draft.code.cells:
        for found in occurrences(*statements):
            if found.name == name and found.action is Action.STORE:
                message = f"{name!r} is {kinds[0]}, and cannot travel to step {reader!r}"
                hint = f"make it in step {reader!r}, or in a functions cell"
                findings.add("KLC201", place_of(cell, found.node), message, hint=hint)
                return


def _process_bound(value: ast.AST | None, names: Names, definitions: object) -> str:
    if isinstance(value, ast.GeneratorExp):
        return "a generator"
    if not isinstance(value, ast.Call):
        return ""
    called = names.path(value.func) or names.builtin(value.func)
    if called in _BOUND_TO_PROCESS:
        return _BOUND_TO_PROCESS[called]
    if isinstance(value.func, ast.Name) and isinstance(definitions, dict):
        made = definitions.get(value.func.id, [])
        if len(made) == 1 and isinstance(made[0].node, ast.FunctionDef) and _is_generator(made[0].node):
            return "a generator"
    return ""


def _is_generator(function: ast.FunctionDef) -> bool:
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting += children(node)
    return False


def _check_secret(cell: Cell, node: ast.AST, findings: Findings) -> None:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
            _check_secret_pair(name, text, place_of(cell, node), findings)
        case ast.Assign(
            targets=[ast.Subscript(slice=ast.Constant(value=str(name)))], value=ast.Constant(value=str(text))
        ):
            _check_secret_pair(name, text, place_of(cell, node), findings)
        case ast.keyword(arg=str(name), value=ast.Constant(value=str(text))):
            _check_secret_pair(name, text, place_of(cell, node), findings)
        case ast.Constant(value=str(text)) if re.search(_CONFIDENTIAL_VALUE, text):
            _check_secret_pair("", text, place_of(cell, node), findings)


def _check_secret_pair(name: str, text: str, place: object, findings: Findings) -> None:
    by_name = bool(re.search(_CONFIDENTIAL_NAME, name)) and not re.match(_PLACEHOLDER, text)
    if by_name or re.search(_CONFIDENTIAL_VALUE, text):
        label = f"{name!r} looks like" if by_name else "this text looks like"
        findings.add(
            "KLC203",
            place,  # type: ignore[arg-type]  # a Place, or a parameter's
            f"{label} a secret, and everybody who sees the pipeline can read it",
            hint="keep it in a Secret, and tag the step secret:NAME:KEY:VARIABLE",
        )


def _check_module_state(travel: Travel, step: str, cell: Cell, node: ast.AST, names: Names, findings: Findings) -> None:
    """A step that changes what a module keeps, when a later step uses that module."""
    path = ""
    if isinstance(node, ast.Call):
        path = names.path(node.func)
        path = path if path in _MODULE_STATE else ""
    elif isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        whole = node.value if isinstance(node, ast.Subscript) else node
        path = names.path(whole)
    if not path:
        return
    top = path.split(".")[0]
    for other, journey in travel.journeys.items():
        if step in travel.ancestors[other] and any(
            name in names.imports and names.imports[name].split(".")[0] == top for name in journey.facts.loaded
        ):
            message = f"this changes {path} for this step alone; step {other!r} uses {top} without the change"
            findings.add("KLC115", place_of(cell, node), message, hint="move it to an imports cell")
            return


def _check_definition_state(travel: Travel, step: str, findings: Findings) -> None:
    """A step that writes into a class or function, when a later step uses that: its source comes again, without the change."""
    journey = travel.journeys[step]
    facts, defined = journey.facts, journey.draft.code.names.defined
    found: dict[str, ast.AST | None] = {name: None for name, sure in facts.changes.items() if sure and name in defined}
    for change in facts.effects.changes:
        if change.sure:
            found |= dict.fromkeys(change.roots & defined, change.node)
    for name, node in sorted(found.items()):
        own = {definition for definition in facts.closure(name) if name in definition.names}
        later = [other for other in travel.journeys if step in travel.ancestors[other]]
        reader = next((other for other in later if _defines_again(travel.journeys[other].facts, name, own)), "")
        if reader:
            cell = next(
                (c for c, own in journey.draft.code.cells if any(node is n for s in own for n in walk(s))), None
            )
            place = place_of(cell, node) if cell and node else journey.draft.place
            message = f"what is written into {name!r} here stays in this step; step {reader!r} defines {name!r} anew"
            findings.add("KLC115", place, message, hint="keep it in a variable")


def _defines_again(facts: Facts, name: str, definitions: set[Definition]) -> bool:
    """Whether a step has a definition by its name, or because a value that it takes in is of it."""
    return name in facts.loaded or any(not definitions.isdisjoint(facts.closure(other)) for other in facts.loaded)


def _check_kept_state(travel: Travel, findings: Findings) -> None:
    """A function with a memory of its own, in several steps: each defines it anew, and so begins with an empty one."""
    users: dict[Definition, list[str]] = {}
    for step, journey in travel.journeys.items():
        used = {one: None for name in sorted(journey.facts.loaded) for one in journey.facts.closure(name)}
        for definition in used:
            if _keeps_state(definition, used):
                users.setdefault(definition, []).append(step)
    for definition, steps in users.items():
        if len(steps) > 1:
            name, listed = sorted(definition.names)[0], ", ".join(repr(step) for step in steps)
            message = f"{name!r} keeps a state between its calls, and each of the steps {listed} begins with a new one"
            findings.add("KLC115", place_of(definition.cell, definition.node), message, hint="keep it in a variable")


def _keeps_state(definition: Definition, used: Iterable[Definition]) -> bool:
    if definition.keeps_state:
        return True
    decorators = {node.id for node in getattr(definition.node, "decorator_list", ()) if isinstance(node, ast.Name)}
    return any(one.gives_state and one.names & decorators for one in used)


def _check_paths(travel: Travel, settings: PipelineSettings, findings: Findings) -> None:
    """A file that one step writes and another one reads, on no volume that both have."""
    mounts = [volume.mount_point.rstrip("/") + "/" for volume in settings.volumes]
    written: dict[str, str] = {}
    for step, journey in travel.journeys.items():
        own: set[str] = set()
        for cell, node in _nodes(journey.draft.code):
            if not isinstance(node, ast.Call):
                continue
            for path, writes in _paths_of(node, journey.draft.code.names):
                if writes:
                    own.add(path)
                elif path in written and path not in own and not path.startswith(tuple(mounts)):
                    message = (
                        f"{path!r} is written in step {written[path]!r}, which runs elsewhere: it will not be here"
                    )
                    findings.add(
                        "KLC202", place_of(cell, node), message, hint="write it below the mount point of a volume"
                    )
        written |= dict.fromkeys(own, step)


def _paths_of(node: ast.Call, names: Names) -> Iterator[tuple[str, bool]]:
    """The plain paths that a call is given, with whether it writes there."""
    function = node.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Call) and _is_path(function.value.func):
        for text in _path_texts(function.value):
            yield text, function.attr in ("write_text", "write_bytes", "touch")
        return
    texts = _path_texts(node)
    if not texts or _is_path(function):
        return
    if names.builtin(node.func) == "open":
        mode = node.args[1] if len(node.args) > 1 else next((k.value for k in node.keywords if k.arg == "mode"), None)
        writes = isinstance(mode, ast.Constant) and bool(re.search("[wax]", str(mode.value)))
        yield texts[0], writes
    elif isinstance(node.func, ast.Attribute):
        yield texts[0], node.func.attr in _WRITERS


def _is_path(node: ast.expr) -> bool:
    """Whether an expression names `Path`."""
    return (node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")) == "Path"


def _path_texts(node: ast.Call) -> list[str]:
    texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return [text for text in texts if re.search(r"[/.]", text) and not re.search(r"\s|://", text)]
