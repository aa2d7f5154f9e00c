"""What a compiled pipeline says, read back from its YAML."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pipelines import a_parameter, a_pipeline, a_step, documents

from kalec.emit.options import EmitOptions, SharedVolume, Toleration
from kalec.emit.pipeline import pipeline_yaml
from kalec.emit.program import python_literal
from kalec.model import AccessMode, Retry, Secret, SecurityContext, Volume, VolumeKind

pytestmark = pytest.mark.slow


def compiled(pipeline, **options):
    """Both documents of a compiled pipeline."""
    specification, *platform = documents(pipeline_yaml(pipeline, EmitOptions(**options)))
    return specification, platform[0]["platforms"]["kubernetes"] if platform else {}


def tasks_of(pipeline, **options):
    return compiled(pipeline, **options)[0]["root"]["dag"]["tasks"]


def container_of(pipeline, task, **options):
    return compiled(pipeline, **options)[0]["deploymentSpec"]["executors"][f"exec-{task}"]["container"]


def program_of(pipeline, task, **options):
    return container_of(pipeline, task, **options)["command"][-1]


def test_every_edge_is_kept_and_steps_without_one_stay_parallel():
    tasks = tasks_of(
        a_pipeline(
            a_step("load", writes=["x"]),
            a_step("other_root"),
            a_step("train", reads=[("x", "load")], after=["other_root"]),
        )
    )

    assert "dependentTasks" not in tasks["load"]
    assert "dependentTasks" not in tasks["other-root"]
    assert tasks["train"]["dependentTasks"] == ["load", "other-root"]
    assert tasks["train"]["inputs"]["artifacts"] == {
        "values_of_load": {"taskOutputArtifact": {"outputArtifactKey": "values", "producerTask": "load"}}
    }


def test_parameters_travel_as_typed_values_with_their_defaults():
    values = {"i": -3, "f": -0.5, "s": 'it\'s "quoted"\nü', "b": False, "l": [1, [None, "x"]], "d": {"k": {}}}
    pipeline = a_pipeline(
        a_step("a", parameters=[*values, "n"]),
        parameters=[*(a_parameter(name, value) for name, value in values.items()), a_parameter("n", None, "str")],
    )
    inputs = compiled(pipeline)[0]["root"]["inputDefinitions"]["parameters"]

    assert {name: inputs[name]["defaultValue"] for name in values} == values
    assert inputs["n"] == {"isOptional": True, "parameterType": "STRING"}
    assert [inputs[name]["parameterType"] for name in values] == [
        "NUMBER_INTEGER", "NUMBER_DOUBLE", "STRING", "BOOLEAN", "LIST", "STRUCT",
    ]  # fmt: skip


def test_a_required_parameter_has_no_default_and_must_be_given():
    pipeline = a_pipeline(a_step("a", parameters=["n"]), parameters=[a_parameter("n", None, "int", required=True)])

    assert compiled(pipeline)[0]["root"]["inputDefinitions"]["parameters"]["n"] == {"parameterType": "NUMBER_INTEGER"}


def test_arguments_keep_out_of_the_way_of_parameters_whatever_they_are_called():
    names = ["values", "values_of_a", "metrics", "report", "STEP", "kalec_runtime", "sys", "id"]
    pipeline = a_pipeline(
        a_step("a", writes=["x"]),
        a_step("b", reads=[("x", "a")], writes=["y"], parameters=names, metrics=["1"], report=True),
        parameters=[a_parameter(name, number) for number, name in enumerate(names)],
    )
    tree = ast.parse(program_of(pipeline, "b"))
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef))
    arguments = [argument.arg for argument in function.args.args]
    task = tasks_of(pipeline)["b"]["inputs"]

    assert len(set(arguments)) == len(arguments) == len(names) + 4
    assert not {"STEP", "kalec_runtime"} & set(arguments)
    assert sorted(given["componentInputParameter"] for given in task["parameters"].values()) == sorted(names)


def test_two_steps_whose_names_become_one_have_tasks_of_their_own():
    assert set(tasks_of(a_pipeline(a_step("_a"), a_step("a"), a_step("a_2"), a_step("a__b"), a_step("createpvc")))) == {
        "a", "a-2", "a-2-2", "a-b", "createpvc",
    }  # fmt: skip


def test_the_code_of_a_cell_stands_in_the_yaml_line_for_line_with_its_number():
    text = pipeline_yaml(
        a_pipeline(a_step("a", "def f(x):\n    return r'\\d' + \"ü\"\n\nprint(f(''))\n")), EmitOptions()
    )

    assert "made.ipynb:cell 7" in text
    for line in ("    return r'\\d' + \"ü\"", "", "print(f(''))"):
        assert f"\n{' ' * 10}{line}\n" in text or f"\n{line}\n" in text


@given(st.text() | st.text("'\"\\\n\r{$ \u2028a", max_size=40))
@example("a = '{{$.inputs}}'\nb\n")
def test_a_literal_is_the_text_it_stands_for_and_holds_no_placeholder_of_kfp(text):
    literal = python_literal(text)

    assert ast.literal_eval(literal) == text
    assert "{{$" not in literal
    literal.encode()


def test_the_same_pipeline_gives_the_same_bytes_in_any_process_and_folder(tmp_path):
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from pipelines import *; from kalec.emit.pipeline import pipeline_yaml; from kalec.emit.options import EmitOptions\n"
        "p = a_pipeline(a_step('a', writes=['x', 'y'], labels={'l': '1', 'k': '2'}, limits={'cpu': '1', 'memory': '1Gi'}),"
        " a_step('b', reads=[('y', 'a'), ('x', 'a')], environment={'B': '1', 'A': '2'}))\n"
        "sys.stdout.write(pipeline_yaml(p, EmitOptions()))"
    )
    here = Path(__file__).parent
    texts = {
        subprocess.run(
            [sys.executable, "-c", program, str(here), str(here.parents[1])],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone}, cwd=folder, capture_output=True, check=True,
        ).stdout
        for seed, zone, folder in (("1", "UTC", tmp_path), ("2", "Asia/Tokyo", "/"))
    }  # fmt: skip

    assert len(texts) == 1
    assert str(here.parents[1]).encode() not in texts.pop()


def test_resources_are_asked_for_in_both_ways_that_backends_read():
    step = a_step(
        "a",
        limits={"cpu": "500m", "memory": "4Gi", "nvidia.com/gpu": "2"},
        requests={"cpu": "250m", "memory": "1G"},
    )

    assert container_of(a_pipeline(step), "a")["resources"] == {
        "accelerator": {"count": "2", "resourceCount": "2", "resourceType": "nvidia.com/gpu", "type": "nvidia.com/gpu"},
        "cpuLimit": 0.5, "cpuRequest": 0.25, "memoryLimit": 4.294967296, "memoryRequest": 1.0,
        "resourceCpuLimit": "500m", "resourceCpuRequest": "250m",
        "resourceMemoryLimit": "4Gi", "resourceMemoryRequest": "1G",
    }  # fmt: skip


def test_what_only_kubernetes_knows_stands_in_the_platform_document():
    step = a_step(
        "a",
        labels={"l": "1"}, annotations={"a": "http://x:80/y"}, node_selector={"disk": "ssd"}, timeout_seconds=60,
        secrets=(Secret("s3", "key", "S3_KEY"),),
    )  # fmt: skip
    platform = compiled(
        a_pipeline(step, security_context=SecurityContext(), timeout_seconds=900),
        image_pull_policy="Always",
        image_pull_secrets=("registry",),
        tolerations=(Toleration("gpu", "", "NoSchedule"), Toleration("a", "b")),
    )[1]

    assert platform["pipelineConfig"] == {"activeDeadlineSeconds": 900}
    assert platform["deploymentSpec"]["executors"]["exec-a"] == {
        "activeDeadlineSeconds": 60,
        "imagePullPolicy": "Always",
        "imagePullSecret": [{"secretName": "registry", "secretNameParameter": {"runtimeValue": {"constant": "registry"}}}],
        "nodeSelector": {"labels": {"disk": "ssd"}},
        "podMetadata": {"annotations": {"a": "http://x:80/y"}, "labels": {"l": "1"}},
        "secretAsEnv": [
            {
                "keyToEnv": [{"envVar": "S3_KEY", "secretKey": "key"}], "optional": False, "secretName": "s3",
                "secretNameParameter": {"runtimeValue": {"constant": "s3"}},
            }
        ],
        "securityContext": {"runAsGroup": 0, "runAsNonRoot": True, "runAsUser": 65534},
        "tolerations": [
            {"effect": "NoSchedule", "key": "gpu", "operator": "Exists"}, {"key": "a", "operator": "Equal", "value": "b"},
        ],
    }  # fmt: skip


def test_a_pipeline_that_says_nothing_of_kubernetes_has_one_document():
    assert compiled(a_pipeline(a_step("a")))[1] == {}


def test_retries_and_the_environment_are_those_of_the_step():
    step = a_step("a", retry=Retry(3, 1.5, 2, 60), environment={"A": "1"}, base_image="mine:1")
    pipeline = a_pipeline(
        step, base_image="theirs:1", volumes=(Volume("v", VolumeKind.EXISTING, "/v", environment_variable="V"),)
    )

    assert tasks_of(pipeline)["a"]["retryPolicy"] == {
        "backoffDuration": "1.5s", "backoffFactor": 2.0, "backoffMaxDuration": "60s", "maxRetryCount": 3,
    }  # fmt: skip
    assert container_of(pipeline, "a")["env"] == [{"name": "A", "value": "1"}, {"name": "V", "value": "/v"}]
    assert container_of(pipeline, "a")["image"] == "mine:1"


@pytest.mark.parametrize(
    ("of_pipeline", "of_step", "cached"),
    [(None, None, True), (False, None, False), (False, True, True), (True, False, False), (None, False, False)],
)
def test_a_steps_own_word_about_caching_wins(of_pipeline, of_step, cached):
    task = tasks_of(a_pipeline(a_step("a", enable_caching=of_step), enable_caching=of_pipeline))["a"]

    assert task["cachingOptions"] == ({"enableCache": True} if cached else {})


def test_volumes_of_every_kind_are_mounted_by_every_step_and_made_for_each_run_where_they_do_not_exist():
    volumes = (
        Volume("old", VolumeKind.EXISTING, "/old"),
        Volume("New Data", VolumeKind.NEW, "/new", "5Gi", AccessMode.READ_WRITE_ONCE, "fast", {"b": "2", "a": "1"}),
        Volume("base", VolumeKind.CLONE, "/clone", "1Gi"),
        Volume("base", VolumeKind.CLONE, "/from-snapshot", "1Gi", snapshot_name="monday"),
        Volume("disk-7", VolumeKind.PERSISTENT, "/disk", "1Ti"),
    )
    pipeline = a_pipeline(a_step("a"), a_step("b", after=["a"]), volumes=volumes)
    tasks, platform = tasks_of(pipeline), compiled(pipeline)[1]
    made = {
        task: {key: value["runtimeValue"]["constant"] for key, value in tasks[task]["inputs"]["parameters"].items()}
        for task in tasks if task.startswith("createpvc")
    }  # fmt: skip

    assert made["createpvc"] == {
        "access_modes": ["ReadWriteOnce"], "annotations": {"a": "1", "b": "2"}, "pvc_name_suffix": "-new-data",
        "size": "5Gi", "storage_class_name": "fast",
    }  # fmt: skip
    assert made["createpvc-2"]["data_source"] == {"apiGroup": "", "kind": "PersistentVolumeClaim", "name": "base"}
    assert made["createpvc-3"]["data_source"]["kind"] == "VolumeSnapshot"
    assert made["createpvc-4"] | {"volume_name": "disk-7", "storage_class_name": ""} == made["createpvc-4"]
    assert all(tasks[task]["cachingOptions"] == {} for task in made)
    for executor in ("exec-a", "exec-b"):
        mounts = platform["deploymentSpec"]["executors"][executor]["pvcMount"]
        assert [mount["mountPath"] for mount in mounts] == [volume.mount_point for volume in volumes]
        assert mounts[0]["constant"] == "old"
        assert [mount["taskOutputParameter"]["producerTask"] for mount in mounts[1:]] == list(made)
    assert tasks["a"]["dependentTasks"] == sorted(made)
    assert not [task for task in tasks if task.startswith("deletepvc")]


def test_values_may_travel_on_a_volume_that_lives_as_long_as_the_run():
    pipeline = a_pipeline(a_step("a", writes=["x"]), a_step("b", reads=[("x", "a")], enable_caching=True))
    tasks = tasks_of(pipeline, shared=SharedVolume(size="2Gi"))

    assert "artifacts" not in tasks["b"]["inputs"]
    assert tasks["b"]["inputs"]["parameters"]["run_id"]["runtimeValue"]["constant"] == "{{$.pipeline_job_uuid}}"
    assert tasks["b"]["dependentTasks"] == ["a", "createpvc"]
    assert tasks["b"]["cachingOptions"] == {}
    assert tasks["deletepvc"]["dependentTasks"] == ["a", "b", "createpvc"]
    assert "'/kalec' + '/' + run_id + '/a'" in program_of(pipeline, "b", shared=SharedVolume())


def test_values_may_travel_on_a_volume_of_the_notebook_where_each_run_has_a_folder():
    volume = Volume("work", VolumeKind.EXISTING, "/home/me")
    pipeline = a_pipeline(a_step("a", writes=["x"]), a_step("b", reads=[("x", "a")]), volumes=(volume,))

    assert "createpvc" not in tasks_of(pipeline, shared=SharedVolume("work"))
    assert "'/home/me/.kalec' + '/' + run_id + '/a'" in program_of(pipeline, "b", shared=SharedVolume("work"))


def test_a_step_installs_its_requirements_and_kfp_from_no_index_in_particular():
    pipeline = a_pipeline(a_step("a"))
    command = container_of(pipeline, "a", requirements={"a": ("numpy==2.1.0", 'x[y]>=1; python_version<"4"')})[
        "command"
    ]

    assert "install --quiet --no-warn-script-location numpy==2.1.0 'x[y]>=1; python_version<\"4\"'\n" in command[2]
    assert "kfp==2.17.0" in command[2]
    assert "index" not in command[2]
    assert container_of(pipeline, "a", install=False)["command"][:2] == ["sh", "-ec"]
