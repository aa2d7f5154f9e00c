"""Tags and metadata of both generations of Kale, and what kalec adds."""

import pytest
from stepwise import codes, load

from kalec.declared import read_parameters
from kalec.findings import Findings
from kalec.model import AccessMode, Cell, ParameterType, Secret, Severity, VolumeKind
from kalec.outline import parse_code


def settings(tags):
    return load((f"step:a {tags}", "x = 1")).pipeline.steps[0].settings


@pytest.mark.parametrize(
    ("tags", "field", "value"),
    [
        ("annotation:k:http://x:80/y", "annotations", {"k": "http://x:80/y"}),
        ("label:team:ocean label:app/x:y", "labels", {"team": "ocean", "app/x": "y"}),
        ("limit:nvidia.com/gpu:2 limit:memory:4Gi", "limits", {"nvidia.com/gpu": "2", "memory": "4Gi"}),
        ("request:cpu:500m", "requests", {"cpu": "500m"}),
        ("image:registry:5000/a/b:1.2", "base_image", "registry:5000/a/b:1.2"),
        ("cache:enabled", "enable_caching", True),
        ("cache:disabled", "enable_caching", False),
        ("report:enabled", "report", True),
        ("secret:s3:key:S3_KEY", "secrets", (Secret("s3", "key", "S3_KEY"),)),
        ("env:A:b:c", "environment", {"A": "b:c"}),
        ("node:disk:ssd", "node_selector", {"disk": "ssd"}),
        ("timeout:2h", "timeout_seconds", 7200),
    ],
)
def test_a_setting_of_a_step(tags, field, value):
    assert getattr(settings(tags), field) == value


def test_retries_have_a_count_an_interval_and_a_factor():
    retry = settings("retry:3:30s:1.5").retry
    assert (retry.times, retry.interval_seconds, retry.factor) == (3, 30, 1.5)
    assert settings("retry:2").retry.interval_seconds == 0


@pytest.mark.parametrize(
    "tag",
    [
        *(
            "step:",
            "step:My-Step",
            "step:1a",
            "limit:memory",
            "limit:memory:lots",
            "limit::1",
            "label:k",
            "label:k:a b",
        ),
        *(
            "annotation:x",
            "image:",
            "cache:maybe",
            "secret:a:b",
            "secret:a:b:1c",
            "env:1:x",
            "retry:0",
            "retry:a",
            "timeout:0",
        ),
    ],
)
def test_a_tag_that_says_too_little_or_what_cannot_be_is_told(tag):
    cell = {"cell_type": "code", "metadata": {"tags": ["step:a", tag]}, "source": "x = 1", "outputs": []}
    assert codes(load(cell)) == ["KLC012"]


def test_block_is_the_old_word_for_step():
    assert [step.name for step in load(("block:a", "x = 1"), ("block:b prev:a", "y = x")).pipeline.steps] == ["a", "b"]


@pytest.mark.parametrize("tag", ["parameters", "hide-input", "remove_cell", "raises-exception", "something", "my:own"])
def test_tags_of_other_programs_get_a_note(tag):
    assert codes(load((f"step:a {tag}", "x = 1")), at_least=Severity.NOTE) == ["KLC011"]
    assert not load((f"step:a {tag}", "x = 1")).has_errors


@pytest.mark.parametrize(
    ("typo", "near"), [("setp:b", "step:b"), ("pervious:b", ""), ("import", "imports"), ("limits:a:1", "limit:a:1")]
)
def test_a_misspelt_tag_gets_the_near_one(typo, near):
    found = [one for one in load(("step:a " + typo, "x = 1")).diagnostics if one.code in ("KLC010", "KLC011")]
    assert (f"{near!r}" if near else "not for kalec") in found[0].message


def test_cells_of_one_name_are_one_step():
    step = load(
        ("step:a limit:cpu:1", "x = 1"), ("skip", "no"), ("step:b", "y = 1"), ("step:a", "z = 1")
    ).pipeline.step("a")
    assert [cell.number for cell in step.cells] == [1, 4]
    assert step.settings.limits == {"cpu": "1"}


def test_defaults_hold_where_a_step_says_nothing():
    metadata = {"steps_defaults": ["limit:cpu:1", "label:a:b", "image:x:1"]}
    steps = load(("step:a limit:cpu:2", "x = 1"), ("step:b", "y = 1"), metadata=metadata).pipeline.steps
    assert [step.settings.limits for step in steps] == [{"cpu": "2"}, {"cpu": "1"}]
    assert [step.settings.labels for step in steps] == [{"a": "b"}] * 2


OLD = {
    "autosnapshot": True,
    "docker_image": "gcr.io/x:1",
    "experiment": {"id": "new", "name": "titanic"},
    "experiment_name": "titanic",
    "katib_metadata": {
        "algorithm": {"algorithmName": "grid", "algorithmSettings": [{"name": "seed", "value": 1}]},
        "maxFailedTrialCount": 3,
        "maxTrialCount": 9,
        "objective": {"additionalMetricNames": ["f1"], "goal": 0.9, "objectiveMetricName": "acc", "type": "maximize"},
        "parallelTrialCount": 2,
        "parameters": [{"feasibleSpace": {"max": "2", "min": "1", "step": "1"}, "name": "n", "parameterType": "int"}],
    },
    "katib_run": False,
    "pipeline_description": "Predict",
    "pipeline_name": "titanic-ml",
    "snapshot_volumes": True,
    "steps_defaults": ["label:access-rok:true"],
    "volume_access_mode": "rwo",
    "storage_class_name": "fast",
    "volumes": [
        {
            "annotations": [{"key": "rok/origin", "value": "x"}, {"key": "", "value": ""}],
            "mount_point": "/home/jovyan",
            "name": "workspace",
            "size": 5,
            "size_type": "Gi",
            "snapshot": True,
            "snapshot_name": "snap",
            "type": "clone",
        },
        {
            "name": "fresh",
            "mount_point": "/fresh",
            "type": "new_pvc",
            "size": "10",
            "size_type": "Gi",
            "volume_access_mode": "rwm",
        },
        {"name": "old", "mount_point": "/old", "type": "pv"},
    ],
}


def test_the_metadata_of_0_x_is_read_whole():
    loaded = load(("step:a", "x = 1"), metadata=OLD)
    assert codes(loaded, at_least=Severity.NOTE) == []
    pipeline = loaded.pipeline
    assert (pipeline.name, pipeline.experiment, pipeline.description) == ("titanic-ml", "titanic", "Predict")
    assert pipeline.settings.base_image == "gcr.io/x:1"
    assert (pipeline.settings.autosnapshot, pipeline.settings.snapshot_volumes) == (True, True)
    clone, new, persistent = pipeline.settings.volumes
    assert (clone.kind, clone.size, clone.snapshot, clone.snapshot_name) == (VolumeKind.CLONE, "5Gi", True, "snap")
    assert (clone.annotations, clone.access_mode, clone.storage_class) == (
        {"rok/origin": "x"},
        AccessMode.READ_WRITE_ONCE,
        "fast",
    )
    assert (new.kind, new.size, new.access_mode) == (VolumeKind.NEW, "10Gi", AccessMode.READ_WRITE_MANY)
    assert persistent.kind is VolumeKind.PERSISTENT
    tuning = pipeline.settings.tuning
    assert (tuning.objective, tuning.goal, tuning.algorithm, tuning.max_trials) == ("acc", 0.9, "grid", 9)
    assert (tuning.parameters[0].name, tuning.parameters[0].minimum) == ("n", "1")


def test_the_metadata_of_2_x_is_read_whole():
    metadata = {
        "base_image": "python:3.12",
        "enable_caching": False,
        "security_context": {"enabled": True, "run_as_user": 5},
        "timeout": 60,
        "volumes": [{"name": "raw-data", "type": "pvc", "mount_point": "/data", "expose_as_env_var": True}],
    }
    loaded = load(("step:a", "x = 1"), metadata=metadata)
    assert codes(loaded, at_least=Severity.NOTE) == []
    assert loaded.pipeline.settings.enable_caching is False
    assert loaded.pipeline.settings.security_context.run_as_user == 5
    assert loaded.pipeline.settings.timeout_seconds == 60
    assert loaded.pipeline.settings.volumes[0].environment_variable == "KALE_VOLUME_RAW_DATA"


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ({"pipeline_name": "Bad Name"}, "KLC021"),
        ({"volumes": "x"}, "KLC021"),
        ({"volumes": [5]}, "KLC021"),
        ({"volumes": [{"name": "a", "type": "pvc", "mount_point": "relative"}]}, "KLC022"),
        ({"volumes": [{"name": "a", "type": "nfs", "mount_point": "/a"}]}, "KLC022"),
        ({"volumes": [{"type": "pvc", "mount_point": "/a"}]}, "KLC022"),
        ({"volumes": [{"name": "a", "type": "new_pvc", "mount_point": "/a", "size": "big"}]}, "KLC022"),
        ({"volume_access_mode": "all"}, "KLC021"),
        ({"timeout": -1}, "KLC021"),
        ({"steps_defaults": 5}, "KLC021"),
        ({"steps_defaults": ["limit:cpu"]}, "KLC012"),
        ({"katib_metadata": {"objective": {"goal": "high"}}}, "KLC021"),
        ({"katib_metadata": {"parameters": [5]}}, "KLC021"),
        ({"security_context": {"run_as_user": "root"}}, "KLC021"),
    ],
)
def test_metadata_that_cannot_be_is_told(metadata, code):
    assert code in codes(load(("step:a", "x = 1"), metadata=metadata))


def parameters(source):
    findings = Findings()
    found = read_parameters([(Cell("n.ipynb", 1, "", source), parse_code(source).body)], findings)
    return found, [one.code for one in findings.sorted()]


@pytest.mark.parametrize(
    ("source", "kind", "default"),
    [
        ("x = -5", ParameterType.INTEGER, -5),
        ("x: float = .1", ParameterType.FLOAT, 0.1),
        ("x: float = 1", ParameterType.FLOAT, 1),
        ("x = 1e-3", ParameterType.FLOAT, 0.001),
        ("x = True", ParameterType.BOOLEAN, True),
        ("x = 'it\\'s \"quoted\"'", ParameterType.TEXT, 'it\'s "quoted"'),
        ("x = [1, -2, [None]]", ParameterType.LIST, [1, -2, [None]]),
        ("x = {'a': {'b': 1}}", ParameterType.DICT, {"a": {"b": 1}}),
        ("x = None", ParameterType.TEXT, None),
        ("x: int | None = None", ParameterType.INTEGER, None),
        ("x: 'list[int]' = []", ParameterType.LIST, []),
        ("from typing import Optional\nx = 1", ParameterType.INTEGER, 1),
        ("'''About x.'''\nx = 1", ParameterType.INTEGER, 1),
    ],
)
def test_a_parameter_is_plain_data_with_a_type(source, kind, default):
    found, _ = parameters(source)
    assert [(one.type, one.default, one.required) for one in found] == [(kind, default, False)]


def test_a_parameter_without_a_default_is_required():
    found, _ = parameters("x: int")
    assert (found[0].type, found[0].required) == (ParameterType.INTEGER, True)


@pytest.mark.parametrize(
    "source", ["x = f()", "x = y", "x = (1, 2)", "x = {1: 2}", "x = 1 + 1", "x = 1e999", "x = b'a'", "f(x)", "x += 1"]
)
def test_what_is_no_plain_data_is_no_parameter(source):
    assert parameters(source) == ((), ["KLC030"])


def test_a_default_of_another_type_is_told():
    assert parameters("x: int = 'a'") == ((), ["KLC031"])
