"""The notebook's metadata under `kubeflow_notebook`: both generations of Kale, read into the model."""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeVar

from kalec.findings import Findings, did_you_mean
from kalec.model import (
    AccessMode,
    PipelineSettings,
    Place,
    SecurityContext,
    StepSettings,
    Tuning,
    TuningParameter,
    Volume,
    VolumeKind,
)
from kalec.vocabulary import merge_settings, read_defaults

Value = TypeVar("Value")

_ACCESS_MODES: Final = {
    "rom": AccessMode.READ_ONLY_MANY,
    "rwo": AccessMode.READ_WRITE_ONCE,
    "rwm": AccessMode.READ_WRITE_MANY,
    **{mode.value: mode for mode in AccessMode},
}
_VOLUME_KINDS: Final = {kind.value: kind for kind in VolumeKind}
_QUANTITY: Final = r"\d+(\.\d+)?([numkKMGTPE]i?)?"

# Keys that tell the JupyterLab panel something, or are of parts of Kale that kalec has no use for.
_WITHOUT_EFFECT: Final = {
    "experiment", "marshal_path", "katib_run", "notebook_path", "debug", "upload_pipeline", "run_pipeline", "deploy",
    "skaffold", "volumes_snapshot", "id", "kfp_host", "output_path",
}  # fmt: skip


class Metadata(NamedTuple):
    """What the metadata says, normalised."""

    name: str
    description: str
    experiment: str
    settings: PipelineSettings
    step_defaults: StepSettings
    severities: tuple[tuple[str, Any], ...]  # as written


class _Reader:
    """Takes typed values out of a mapping; a wrong type is a finding, and reads as "not said"."""

    def __init__(self, raw: Mapping[str, Any], place: Place, findings: Findings, where: str = "") -> None:
        self.raw, self.place, self.findings, self.where = raw, place, findings, where
        self.known: set[str] = set()

    def take(self, key: str, kind: type[Value], otherwise: Value) -> Value:
        self.known.add(key)
        value = self.raw.get(key)
        if value is None:
            return otherwise
        if kind is int and isinstance(value, str) and re.fullmatch(r"\d+", value):
            value = int(value)  # the panel writes numbers as texts, at times
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            wanted = {str: "a text", int: "a whole number", bool: "true or false", list: "a list", dict: "an object"}
            self.wrong(f"{self.where}{key} is {value!r}, and must be {wanted[kind]}")
            return otherwise
        return value

    def wrong(self, message: str) -> None:
        self.findings.add("KLC021", self.place, message)

    def close(self, also_known: set[str] = _WITHOUT_EFFECT) -> None:
        """Note the keys that nobody took."""
        for key in sorted(self.raw.keys() - self.known - also_known):
            near = did_you_mean(key, self.known)
            self.findings.add(
                "KLC020", self.place, f"the metadata {self.where}{key!r} is not known, and has no effect{near}"
            )


def read_metadata(raw: Mapping[str, Any], stem: str, place: Place, findings: Findings) -> Metadata:
    """Read the metadata; `stem` names the pipeline where the metadata does not."""
    reader = _Reader(raw, place, findings)
    name = reader.take("pipeline_name", str, "")
    if name and not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name):
        reader.wrong(f"pipeline_name is {name!r}, and must be of small letters, digits and '-', as {as_name(name)!r}")
        name = as_name(name)
    experiment = reader.take("experiment_name", str, "")
    chosen = reader.raw.get("experiment")
    if not experiment and isinstance(chosen, dict) and isinstance(chosen.get("name"), str):
        experiment = chosen["name"]
    own = reader.take("kalec", dict, {})
    severities = own.get("severity", {})
    if not isinstance(severities, dict):
        reader.wrong('kalec.severity must be an object, as {"KLC106": "error"}')
        severities = {}
    metadata = Metadata(
        name=name or as_name(stem),
        description=reader.take("pipeline_description", str, ""),
        experiment=experiment,
        settings=_settings(reader),
        step_defaults=_step_defaults(reader),
        severities=tuple(severities.items()),
    )
    reader.close()
    return metadata


def as_name(text: str) -> str:
    """The name of a pipeline that comes nearest to a text."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "pipeline"


def _settings(reader: _Reader) -> PipelineSettings:
    volumes = tuple(_volumes(reader))
    return PipelineSettings(
        base_image=reader.take("base_image", str, "") or reader.take("docker_image", str, ""),
        volumes=volumes,
        snapshot_volumes=reader.take("snapshot_volumes", bool, False),
        autosnapshot=reader.take("autosnapshot", bool, False),
        enable_caching=_caching(reader),
        timeout_seconds=_positive(reader, "timeout"),
        working_directory=reader.take("abs_working_dir", str, ""),
        security_context=_security_context(reader),
        tuning=_tuning(reader),
        kfp_host=reader.take("kfp_host", str, ""),
        output_path=reader.take("output_path", str, ""),
    )


def _caching(reader: _Reader) -> bool | None:
    value = reader.take("enable_caching", bool, False)
    return value if isinstance(reader.raw.get("enable_caching"), bool) else None


def _positive(reader: _Reader, key: str) -> int | None:
    value = reader.take(key, int, 0)
    if value < 0:
        reader.wrong(f"{reader.where}{key} is {value}, and must be more than 0")
    return value if value > 0 else None


def _step_defaults(reader: _Reader) -> StepSettings:
    """A list of tags (notebooks), or an object as the decorators of 0.x take it."""
    raw = reader.raw.get("steps_defaults")
    reader.known.add("steps_defaults")
    if isinstance(raw, dict):
        return settings_from_mapping(raw, reader.place, reader.findings)
    if raw is None:
        return StepSettings()
    if not isinstance(raw, list) or not all(isinstance(tag, str) for tag in raw):
        reader.wrong(f"steps_defaults is {raw!r}, and must be a list of tags")
        return StepSettings()
    return read_defaults(raw, reader.place, reader.findings)


def settings_from_mapping(raw: Mapping[str, Any], place: Place, findings: Findings) -> StepSettings:
    """Settings of a step from keywords: limits, requests, labels, annotations, retry_count, timeout, …"""
    tags: list[str] = []
    for plural in ("limits", "requests", "labels", "annotations"):
        part = raw.get(plural) or {}
        if isinstance(part, dict):
            tags += [f"{plural[:-1]}:{key}:{value}" for key, value in part.items()]
        else:
            findings.add("KLC021", place, f"{plural} is {part!r}, and must be an object")
    for key, tag in (("timeout", "timeout"), ("base_image", "image"), ("docker_image", "image")):
        if raw.get(key):
            tags.append(f"{tag}:{raw[key]}")
    for key, tag in (("enable_caching", "cache"), ("generate_html_report", "report")):
        if raw.get(key) is not None:
            tags.append(f"{tag}:{'enabled' if raw[key] else 'disabled'}")
    if raw.get("retry_count"):
        retry = [str(raw["retry_count"]), str(raw.get("retry_interval") or ""), str(raw.get("retry_factor") or "")]
        tags.append("retry:" + ":".join(retry).rstrip(":"))
    known = {"limits", "requests", "labels", "annotations", "timeout", "base_image", "docker_image", "enable_caching",
             "generate_html_report", "retry_count", "retry_interval", "retry_factor", "retry_max_interval", "name",
             "deploy_config", "secrets"}  # fmt: skip
    for key in sorted(raw.keys() - known):
        findings.add("KLC020", place, f"the setting {key!r} is not known, and has no effect{did_you_mean(key, known)}")
    return merge_settings(StepSettings(), read_defaults(tags, place, findings))


def _volumes(reader: _Reader) -> list[Volume]:
    read = []
    common_class = reader.take("storage_class_name", str, "")
    common_mode = _access_mode(reader, "volume_access_mode") or AccessMode.READ_WRITE_MANY
    for number, raw in enumerate(reader.take("volumes", list, []), 1):
        if not isinstance(raw, dict):
            reader.wrong(f"volume {number} is no object")
            continue
        volume = _volume(_Reader(raw, reader.place, reader.findings, f"volumes[{number}]."), common_class, common_mode)
        if volume:
            read.append(volume)
    for volume in read:
        if sum(other.mount_point == volume.mount_point for other in read) > 1:
            reader.findings.add("KLC015", reader.place, f"two volumes have the mount point {volume.mount_point}")
    return read


def _volume(reader: _Reader, common_class: str, common_mode: AccessMode) -> Volume | None:
    name = reader.take("name", str, "")
    mount_point = reader.take("mount_point", str, "")
    kind_word = reader.take("type", str, "")
    kind = _VOLUME_KINDS.get(kind_word)
    size = _size(reader)
    volume_class = reader.take("storage_class_name", str, "") or reader.take("storage_class", str, "") or common_class
    mode = _access_mode(reader, "volume_access_mode") or common_mode
    expose = reader.take("expose_as_env_var", bool, False)
    snapshot, snapshot_name = reader.take("snapshot", bool, False), reader.take("snapshot_name", str, "")
    annotations = _annotations(reader)
    reader.close({"id", "path"})
    problem = ""
    if not name:
        problem = "it has no name"
    elif not mount_point.startswith("/"):
        problem = f"its mount_point is {mount_point!r}, and must be an absolute path"
    elif kind is None:
        near = did_you_mean(kind_word, _VOLUME_KINDS)
        problem = f"its type is {kind_word!r}, and must be one of {', '.join(_VOLUME_KINDS)}{near}"
    elif kind is VolumeKind.NEW and not size:
        problem = "it is new and has no size"
    if problem or kind is None:
        label = f"the volume {name!r}" if name else f"the volume at {reader.where.rstrip('.')}"
        reader.findings.add("KLC022", reader.place, f"{label}: {problem}")
        return None
    variable = "KALE_VOLUME_" + re.sub(r"\W", "_", name).upper() if expose else ""
    return Volume(name, kind, mount_point, size, mode, volume_class, annotations, snapshot, snapshot_name, variable)


def _size(reader: _Reader) -> str:
    reader.known |= {"size", "size_type"}
    size, unit = reader.raw.get("size"), reader.raw.get("size_type")
    if size in (None, "", 0):
        return ""
    text = f"{size}{unit or ''}" if not isinstance(size, bool) else ""
    if not re.fullmatch(_QUANTITY, text):
        reader.wrong(
            f"{reader.where}size is {size!r} {unit or ''}, and must be a number with a unit, as 5 Gi".replace(" ,", ",")
        )
        return ""
    return text


def _access_mode(reader: _Reader, key: str) -> AccessMode | None:
    word = reader.take(key, str, "")
    if word and word not in _ACCESS_MODES:
        reader.wrong(f"{reader.where}{key} is {word!r}, and must be one of {', '.join(_ACCESS_MODES)}")
    return _ACCESS_MODES.get(word)


def _annotations(reader: _Reader) -> dict[str, str]:
    """A list of {key, value}, as the panel writes it, or an object."""
    raw = reader.raw.get("annotations")
    reader.known.add("annotations")
    if isinstance(raw, dict):
        return {str(key): str(value) for key, value in raw.items()}
    pairs = {}
    for part in raw if isinstance(raw, list) else []:
        if not isinstance(part, dict) or not isinstance(part.get("key"), str):
            reader.wrong(f"{reader.where}annotations must be a list of objects with a key and a value")
        elif part["key"] and part.get("value") not in (None, ""):
            pairs[part["key"]] = str(part["value"])
    if raw is not None and not isinstance(raw, list):
        reader.wrong(f"{reader.where}annotations must be a list of objects with a key and a value")
    return pairs


def _security_context(reader: _Reader) -> SecurityContext | None:
    raw = reader.take("security_context", dict, {})
    inner = _Reader(raw, reader.place, reader.findings, "security_context.")
    enabled = inner.take("enabled", bool, bool(raw))
    context = SecurityContext(
        inner.take("run_as_user", int, 65534),
        inner.take("run_as_group", int, 0),
        inner.take("run_as_non_root", bool, True),
    )
    inner.close()
    return context if enabled else None


def _tuning(reader: _Reader) -> Tuning | None:
    raw = reader.take("katib_metadata", dict, {})
    if not raw:
        return None
    inner = _Reader(raw, reader.place, reader.findings, "katib_metadata.")
    objective = _Reader(inner.take("objective", dict, {}), reader.place, reader.findings, "katib_metadata.objective.")
    algorithm = _Reader(inner.take("algorithm", dict, {}), reader.place, reader.findings, "katib_metadata.algorithm.")
    goal = objective.raw.get("goal")
    if goal is not None and (isinstance(goal, bool) or not _is_number(goal)):
        reader.wrong(f"katib_metadata.objective.goal is {goal!r}, and must be a number")
        goal = None
    tuning = Tuning(
        parameters=tuple(_tuning_parameters(inner)),
        objective=objective.take("objectiveMetricName", str, ""),
        objective_type=objective.take("type", str, ""),
        goal=None if goal is None else float(goal),
        additional_metrics=tuple(str(name) for name in objective.take("additionalMetricNames", list, [])),
        algorithm=algorithm.take("algorithmName", str, ""),
        algorithm_settings=_algorithm_settings(algorithm),
        max_trials=_positive(inner, "maxTrialCount") or 12,
        max_failed_trials=inner.take("maxFailedTrialCount", int, 3),
        parallel_trials=_positive(inner, "parallelTrialCount") or 3,
    )
    inner.close(set())
    return tuning


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]  # whatever it is: that is the question
    except (TypeError, ValueError):
        return False
    return True


def _algorithm_settings(algorithm: _Reader) -> dict[str, str]:
    pairs = {}
    for part in algorithm.take("algorithmSettings", list, []):
        if isinstance(part, dict) and isinstance(part.get("name"), str):
            pairs[part["name"]] = str(part.get("value", ""))
        else:
            algorithm.wrong(
                "katib_metadata.algorithm.algorithmSettings must be a list of objects with a name and a value"
            )
    return pairs


def _tuning_parameters(reader: _Reader) -> list[TuningParameter]:
    read = []
    for raw in reader.take("parameters", list, []):
        space = raw.get("feasibleSpace", {}) if isinstance(raw, dict) else None
        if not isinstance(raw, dict) or not isinstance(raw.get("name"), str) or not isinstance(space, dict):
            reader.wrong("katib_metadata.parameters must be a list of objects with a name, a type and a feasibleSpace")
            continue
        choices = space.get("list", [])
        read.append(
            TuningParameter(
                raw["name"],
                str(raw.get("parameterType", "")),
                str(space.get("min", "")),
                str(space.get("max", "")),
                str(space.get("step", "")),
                tuple(str(choice) for choice in choices) if isinstance(choices, list) else (),
            )
        )
    return read
