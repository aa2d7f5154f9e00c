"""The Python program of a step, as it stands in the pipeline: the notebook's cells first, then the runtime, packed.

It is a lightweight component as the KFP SDK makes them: a module with a function, whose annotated arguments KFP fills in
with parameters, with artifacts to read, and with artifacts to write.
"""

import re
from typing import Final

from kalec import VERSION
from kalec.emit.plan import Plan, Signature
from kalec.emit.yamltext import is_plain
from kalec.model import JsonValue, ParameterType, Step
from kalec.runtime import describe
from kalec.runtime.packed import PACKED

_ANNOTATIONS: Final = {
    ParameterType.INTEGER: "int",
    ParameterType.FLOAT: "float",
    ParameterType.TEXT: "str",
    ParameterType.BOOLEAN: "bool",
    ParameterType.LIST: "list",
    ParameterType.DICT: "dict",
}
PLACEHOLDER: Final = "{{$"
# What no reader of the text would see as it is: controls (\r would become \n), spaces of other kinds, marks of direction.
_UNSEEN: Final = (
    r"[\x00-\x08\x0b-\x1f\x7f-\xa0\xad\u2000-\u200f\u2028-\u202f\u205f-\u206f\ud800-\udfff\ufeff\ufff9-\uffff]"
)

_RUNTIME: Final = f'''\
# What executes the cells: the runtime of kalec {VERSION}, the same in every step. Python source, packed; see kalec(1).
RUNTIME = """\\
{PACKED}"""
kalec_runtime = types.ModuleType("kalec_runtime")
sys.modules["kalec_runtime"] = kalec_runtime
exec(compile(zlib.decompress(base64.b64decode(RUNTIME)), "kalec_runtime.py", "exec"), kalec_runtime.__dict__)
'''


def program_of(plan: Plan, step: Step) -> str:
    """The text of the program."""
    signature = plan.signatures[step.name]
    source = _in_docstring(plan.pipeline.source)
    about = f"Step {step.name} of the pipeline {plan.pipeline.name}, from {source}, by kalec {VERSION}."
    return "".join(
        [
            f'"""{about}"""\n\nimport base64\nimport sys\nimport types\nimport zlib\n\nfrom kfp import dsl\n\n',
            f"STEP = {_step(step)}\n\n\n",
            _function(plan, step, signature),
            f"\n\n{_RUNTIME}",
        ]
    )


def python_literal(text: str) -> str:
    """Python source of a string constant, which shows the lines of `text` as they are wherever Python can.

    It never holds the characters that begin a placeholder of KFP, which would be replaced in it.
    """
    as_it_is = "\n" in text and PLACEHOLDER not in text and (is_plain(text) or not re.search(_UNSEEN, text))
    for quotes in ("'''", '"""'):
        if as_it_is and quotes not in text and text[-1] not in (quotes[0], "\\"):
            return f"{'r' if chr(92) in text else ''}{quotes}{text}{quotes}"
    lines = [repr(line).replace(PLACEHOLDER, "{{\\x24") for line in text.splitlines(keepends=True)]
    return (lines or ["''"])[0] if len(lines) < 2 else "(" + "\n".join(lines) + ")"


def _in_docstring(text: str) -> str:
    return re.sub(r"[^\w .()-]", "_", text)


def _step(step: Step) -> str:
    """The description of the step that the runtime takes, as Python."""
    lines = ["{"]
    for key, value in describe(step).items():
        if isinstance(value, list) and value:
            lines += [f"    {python_literal(key)}: [", *(f"        {_plain(member)}," for member in value), "    ],"]
        else:
            lines.append(f"    {python_literal(key)}: {_plain(value)},")
    return "\n".join([*lines, "}"])


def _plain(value: JsonValue) -> str:
    """Plain data as Python; the source of a cell comes last in its dictionary, and begins a line."""
    if isinstance(value, str):
        return python_literal(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_plain, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{python_literal(key)}: {_plain(member)}" for key, member in value.items()) + "}"
    return repr(value)


def _function(plan: Plan, step: Step, signature: Signature) -> str:
    """The component: it only hands over what KFP gives it."""
    arguments = [
        f"{argument}: {_ANNOTATIONS[parameter.type]}" + ("" if parameter.required else " = None")
        for argument, parameter in sorted(signature.parameters.items(), key=lambda pair: not pair[1].required)
    ]
    kinds = dict.fromkeys(signature.inputs.values(), "dsl.Input[dsl.Artifact]")
    kinds |= {signature.values: "dsl.Output[dsl.Artifact]", signature.metrics: "dsl.Output[dsl.Metrics]"}
    kinds |= {signature.report: "dsl.Output[dsl.HTML]", signature.run: "str"}
    arguments[:0] = [f"{argument}: {kind}" for argument, kind in kinds.items() if argument]
    given = ", ".join(f"{parameter.name!r}: {argument}" for argument, parameter in signature.parameters.items())
    types: dict[str, JsonValue] = {
        p.name: [p.type.value, None if p.required else p.default] for p in signature.parameters.values()
    }
    lines = [
        f"def {signature.function}({', '.join(arguments)}):",
        "    kalec_runtime.execute_step(",
        "        STEP,",
        f"        {{{given}}},",
        f"        {_inputs(plan, step, signature)},",
        f"        {_output(plan, step, signature)},",
        f"        types_of={_plain(types)},",
    ]
    if plan.pipeline.settings.working_directory:
        lines.append(f"        folder={python_literal(plan.pipeline.settings.working_directory)},")
    lines += [
        f"        {kind}={argument},"
        for kind, argument in (("metrics", signature.metrics), ("report", signature.report))
        if argument
    ]
    return "\n".join([*lines, "    )\n"])


def _inputs(plan: Plan, step: Step, signature: Signature) -> str:
    """Python for the folder of each step that values come from."""
    if signature.run:
        folders = {source: _shared(plan, source, signature) for source in step.data_from}
    else:
        folders = {source: f"{argument}.path" for source, argument in signature.inputs.items()}
    return "{" + ", ".join(f"{source!r}: {folder}" for source, folder in folders.items()) + "}"


def _output(plan: Plan, step: Step, signature: Signature) -> str:
    if signature.run and step.writes:
        return _shared(plan, step.name, signature)
    return f"{signature.values}.path" if signature.values else "''"


def _shared(plan: Plan, step: str, signature: Signature) -> str:
    """Python for the folder of a step on the shared volume: each run has its own."""
    return f"{python_literal(plan.values_folder)} + '/' + {signature.run} + {python_literal('/' + plan.tasks[step])}"
