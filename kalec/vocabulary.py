"""The tags of cells: those of Kale 0.x and of Kale 2.x, and what kalec adds.

What a tag means stands in `CellTags`; what is wrong with one is a finding, and the tag is then as if it were not there.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Final, NamedTuple

from kalec.findings import Findings, did_you_mean, nearest
from kalec.model import Place, Retry, Secret, StepSettings


class Role(Enum):
    """What a tagged cell is for. Untagged cells (no role) belong to the cell before."""

    SKIP = "skip"
    IMPORTS = "imports"
    FUNCTIONS = "functions"
    PARAMETERS = "pipeline-parameters"
    METRICS = "pipeline-metrics"
    STEP = "step"
    NOTEBOOK = "notebook"


class CellTags(NamedTuple):
    """What the tags of one cell say."""

    role: Role | None = None
    name: str = ""  # of the step, or of the notebook reference
    previous: tuple[str, ...] = ()
    settings: StepSettings = StepSettings()


# Tags that well-known programs put on cells, and that say nothing to kalec.
FOREIGN: Final = (
    r"parameters|injected-parameters|default parameters|hide[-_].*|remove[-_].*|raises-exception|nbval.*|"
    r"full-?width|margin|popout|scroll-output|output_scroll|keep_output|solution|nbgrader.*|worksheet.*|"
    r"no[-_]?export|export|exporti|active-.*|papermill.*|thebe.*|jupyterlab.*|slideshow|mystnb.*|papermill-error-cell-tag"
)
# What would make steps depend on values, or many of one. To leave such a tag without effect would run what should not run.
_CONTROL: Final = frozenset(["if", "elif", "else", "when", "unless", "while", "each", "for", "foreach", "loop"])
_WORDS: Final = {role.value: role for role in Role if role not in (Role.STEP, Role.NOTEBOOK)}
_STEP_NAME: Final = r"[_a-z][_a-z0-9]*"
_LABEL_KEY: Final = r"(?a)([a-z0-9.-]+/)?[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?"
_QUANTITY: Final = r"\d+(\.\d+)?([eE][+-]?\d+|[numkKMGTPE]i?)?"
_VARIABLE: Final = r"(?a)[A-Za-z_]\w*"
_DURATION: Final = r"(\d+)([smhd]?)"
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SWITCH: Final = {"enabled": True, "disabled": False, "true": True, "false": False}


class BadTag(Exception):
    """A tag of ours says too little, or something that cannot be."""


def read_tags(tags: Iterable[str], place: Place, findings: Findings) -> CellTags:
    """What the tags of the cell at `place` mean."""
    read = CellTags()
    names: list[tuple[Role, str]] = []
    for tag in tags:
        kind, colon, value = tag.partition(":")
        try:
            if tag in _WORDS:
                names.append((_WORDS[tag], ""))
            elif colon and kind in ("step", "block", "notebook"):
                names.append((Role.NOTEBOOK if kind == "notebook" else Role.STEP, _step_name(kind, value)))
            elif colon and kind == "prev":
                read = read._replace(previous=(*read.previous, value))
            elif colon and kind in _SETTINGS:
                read = read._replace(settings=_SETTINGS[kind](read.settings, value))
            else:
                _unknown(tag, place, findings)
        except BadTag as error:
            findings.add("KLC012", place, f"the tag {tag!r}: {error}")
    return _with_role(read, names, place, findings)


def read_defaults(tags: Iterable[str], place: Place, findings: Findings) -> StepSettings:
    """The `steps_defaults` of the metadata: tags that hold for every step."""
    settings = StepSettings()
    for tag in tags:
        kind, _, value = tag.partition(":")
        if kind not in _SETTINGS:
            near = did_you_mean(kind, _SETTINGS)
            findings.add("KLC012", place, f"{tag!r} in steps_defaults is no setting of a step{near}")
            continue
        try:
            settings = _SETTINGS[kind](settings, value)
        except BadTag as error:
            findings.add("KLC012", place, f"{tag!r} in steps_defaults: {error}")
    return settings


def _with_role(read: CellTags, names: list[tuple[Role, str]], place: Place, findings: Findings) -> CellTags:
    names = list(dict.fromkeys(names))
    special = next(((role, name) for role, name in names if role not in (Role.STEP, Role.NOTEBOOK)), None)
    if special and len(names) > 1 and special[0] is not Role.SKIP:
        findings.add("KLC015", place, f"the cell is tagged {special[0].value!r} and as something else")
    if not special and len(names) > 1:
        findings.add("KLC015", place, f"the cell belongs to two steps: {', '.join(name for _, name in names)}")
    if not names:
        if read != CellTags():
            what = "prev:" if read.previous else "a setting of a step"
            findings.add("KLC018", place, f"{what} has no effect here: the cell has no step: tag", hint="add step:NAME")
        return CellTags()
    role, name = special or names[0]
    return read._replace(role=role, name=name) if role in (Role.STEP, Role.NOTEBOOK) else CellTags(role)


def _unknown(tag: str, place: Place, findings: Findings) -> None:
    kind, colon, rest = tag.partition(":")
    if re.fullmatch(FOREIGN, tag):
        findings.add("KLC011", place, f"the tag {tag!r} is not for kalec, and has no effect")
        return
    if kind in _CONTROL:
        message = f"the tag {tag!r}: a pipeline of kalec has no conditions and no loops over steps"
        findings.add("KLC019", place, message, hint="write the condition or the loop in the code of the step")
        return
    kinds = ["step", "block", "prev", "notebook", *_SETTINGS]
    if colon and (near := nearest(kind, kinds)):
        findings.add("KLC010", place, f"unknown tag {tag!r}. Did you mean '{near}:{rest}'?")
    elif near := nearest(tag, _WORDS):
        findings.add("KLC010", place, f"unknown tag {tag!r}. Did you mean {near!r}?")
    elif tag in kinds:
        findings.add("KLC012", place, f"the tag {tag!r} lacks its value", hint=f"write {tag}:…")
    else:
        findings.add("KLC011", place, f"the tag {tag!r} is not for kalec, and has no effect")


def _step_name(kind: str, value: str) -> str:
    if not value:
        raise BadTag(f"it lacks the name, as in {kind}:train")
    if not re.fullmatch(_STEP_NAME, value):
        near = re.sub(r"[^a-z0-9]+", "_", value.lower()).strip("_") or "step"
        near = near if not near[0].isdigit() else f"_{near}"
        raise BadTag(f"a name is of small letters, digits and _, as {near!r}")
    return value


def _key_and_value(value: str, example: str) -> tuple[str, str]:
    key, colon, rest = value.partition(":")
    if not key or not colon:
        raise BadTag(f"it needs a key and a value, as in {example}")
    return key, rest


def _label(settings: StepSettings, value: str) -> StepSettings:
    key, text = _key_and_value(value, "label:team:ocean")
    if not re.fullmatch(_LABEL_KEY, key):
        raise BadTag(f"{key!r} is no key of a label")
    if len(text) > 63 or not re.fullmatch(r"([A-Za-z0-9]([\w.-]*[A-Za-z0-9])?)?", text, re.ASCII):
        raise BadTag(f"{text!r} is no value of a label: letters, digits, '-', '_', '.', at most 63")
    return settings._replace(labels={**settings.labels, key: text})


def _annotation(settings: StepSettings, value: str) -> StepSettings:
    key, text = _key_and_value(value, "annotation:sidecar.istio.io/inject:false")
    if not re.fullmatch(_LABEL_KEY, key):
        raise BadTag(f"{key!r} is no key of an annotation")
    return settings._replace(annotations={**settings.annotations, key: text})


def _quantity(value: str, kind: str) -> tuple[str, str]:
    key, text = _key_and_value(value, f"{kind}:memory:4Gi")
    if not re.fullmatch(r"[a-z0-9._-]+(/[A-Za-z0-9._-]+)?", key):
        raise BadTag(f"{key!r} is no resource, as cpu, memory or nvidia.com/gpu")
    if not re.fullmatch(_QUANTITY, text):
        raise BadTag(f"{text!r} is no quantity, as 2, 500m or 4Gi")
    return key, text


def _limit(settings: StepSettings, value: str) -> StepSettings:
    key, text = _quantity(value, "limit")
    return settings._replace(limits={**settings.limits, key: text})


def _request(settings: StepSettings, value: str) -> StepSettings:
    key, text = _quantity(value, "request")
    return settings._replace(requests={**settings.requests, key: text})


def _environment(settings: StepSettings, value: str) -> StepSettings:
    key, text = _key_and_value(value, "env:TOKENIZERS_PARALLELISM:false")
    if not re.fullmatch(_VARIABLE, key):
        raise BadTag(f"{key!r} is no name of an environment variable")
    return settings._replace(environment={**settings.environment, key: text})


def _secret(settings: StepSettings, value: str) -> StepSettings:
    parts = value.split(":")
    if len(parts) != 3 or not all(parts):
        raise BadTag("it needs a secret, a key and a variable, as in secret:s3:password:S3_PASSWORD")
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", parts[0]):
        raise BadTag(f"{parts[0]!r} is no name of a Secret")
    if not re.fullmatch(r"[-._a-zA-Z0-9]+", parts[1]):
        raise BadTag(f"{parts[1]!r} is no key of a Secret")
    if not re.fullmatch(_VARIABLE, parts[2]):
        raise BadTag(f"{parts[2]!r} is no name of an environment variable")
    kept = tuple(secret for secret in settings.secrets if secret.variable != parts[2])
    return settings._replace(secrets=(*kept, Secret(*parts)))


def _node(settings: StepSettings, value: str) -> StepSettings:
    key, text = _key_and_value(value, "node:accelerator:a100")
    return settings._replace(node_selector={**settings.node_selector, key: text})


def _base_image(settings: StepSettings, value: str) -> StepSettings:
    if not value or any(character.isspace() for character in value):
        raise BadTag("it needs the name of an image, as in image:python:3.12")
    return settings._replace(base_image=value)


def _switch(value: str) -> bool:
    if value.lower() not in _SWITCH:
        raise BadTag("it is enabled or disabled")
    return _SWITCH[value.lower()]


def _cache(settings: StepSettings, value: str) -> StepSettings:
    return settings._replace(enable_caching=_switch(value))


def _report(settings: StepSettings, value: str) -> StepSettings:
    return settings._replace(report=_switch(value))


def _seconds(value: str) -> int:
    found = re.fullmatch(_DURATION, value)
    if not found or not int(found[1]):
        raise BadTag(f"{value!r} is no time, as 90s, 10m or 2h")
    return int(found[1]) * _SECONDS[found[2]]


def _timeout(settings: StepSettings, value: str) -> StepSettings:
    return settings._replace(timeout_seconds=_seconds(value))


def _retry(settings: StepSettings, value: str) -> StepSettings:
    """`retry:COUNT[:INTERVAL[:FACTOR]]`."""
    count, interval, factor, *rest = [*value.split(":"), "", ""]
    if rest not in ([], [""], ["", ""]) or not re.fullmatch(r"[1-9]\d{0,3}", count):
        raise BadTag("it needs a count, as in retry:3, retry:3:30s or retry:3:30s:2")
    if factor and not re.fullmatch(r"\d+(\.\d+)?", factor):
        raise BadTag(f"{factor!r} is no factor, as 2 or 1.5")
    retry = Retry(int(count), _seconds(interval) if interval else 0, float(factor or 1))
    return settings._replace(retry=retry)


_SETTINGS: Final[Mapping[str, Callable[[StepSettings, str], StepSettings]]] = {
    "annotation": _annotation,
    "label": _label,
    "limit": _limit,
    "request": _request,
    "env": _environment,
    "secret": _secret,
    "node": _node,
    "image": _base_image,
    "cache": _cache,
    "report": _report,
    "timeout": _timeout,
    "retry": _retry,
}


def merge_settings(defaults: StepSettings, own: StepSettings) -> StepSettings:
    """`own` over `defaults`, key by key."""
    variables = {secret.variable for secret in own.secrets}
    return StepSettings(
        base_image=own.base_image or defaults.base_image,
        enable_caching=defaults.enable_caching if own.enable_caching is None else own.enable_caching,
        limits={**defaults.limits, **own.limits},
        requests={**defaults.requests, **own.requests},
        labels={**defaults.labels, **own.labels},
        annotations={**defaults.annotations, **own.annotations},
        environment={**defaults.environment, **own.environment},
        secrets=(*(secret for secret in defaults.secrets if secret.variable not in variables), *own.secrets),
        node_selector={**defaults.node_selector, **own.node_selector},
        retry=own.retry or defaults.retry,
        timeout_seconds=own.timeout_seconds or defaults.timeout_seconds,
        report=defaults.report if own.report is None else own.report,
    )
