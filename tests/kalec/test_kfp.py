"""Compiled pipelines in the hands of KFP itself: loaded, checked, and really run."""

import json
import shutil

import pytest
import yaml
from kfpenvironment import kfp_errors, kfp_python, run_with_kfp, site_packages, without_programs
from pipelines import a_parameter, a_pipeline, a_step, documents

from kalec.cli import run
from kalec.emit.options import EmitOptions, SharedVolume, Toleration
from kalec.emit.pipeline import pipeline_yaml
from kalec.load import load_pipeline
from kalec.model import Retry, Secret, SecurityContext, Volume, VolumeKind

pytestmark = pytest.mark.slow

EVERYTHING = a_pipeline(
    a_step("load", "x = 1\n", writes=["x"], parameters=["n", "l", "d", "none"], retry=Retry(2, 5, 2, 60), timeout_seconds=60),
    a_step(
        "train", "y = x\n", reads=[("x", "load")], metrics=["x / 2"], report=True, enable_caching=False,
        limits={"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"}, requests={"cpu": "100m"}, labels={"a": "b"},
        annotations={"c": "d:e"}, environment={"E": "1"}, secrets=(Secret("s", "k", "V"),), node_selector={"n": "v"},
    ),
    parameters=[
        a_parameter("n", -1.5), a_parameter("l", [1, None, "ü"]), a_parameter("d", {"k": [True]}),
        a_parameter("none", None, "str"),
    ],
    volumes=(
        Volume("old", VolumeKind.EXISTING, "/old"), Volume("new", VolumeKind.NEW, "/new", "1Gi"),
        Volume("old", VolumeKind.CLONE, "/clone", "1Gi"), Volume("pv", VolumeKind.PERSISTENT, "/pv", "1Gi"),
    ),
    security_context=SecurityContext(), timeout_seconds=3600,
)  # fmt: skip


def test_kfp_has_nothing_against_any_feature_in_either_way_of_data(tmp_path):
    options = EmitOptions(image_pull_policy="Always", image_pull_secrets=("r",), tolerations=(Toleration("k", "v"),))
    files = {
        "artifacts": (EVERYTHING, options),
        "own-volume": (EVERYTHING, EmitOptions(shared=SharedVolume())),
        "notebook-volume": (EVERYTHING, EmitOptions(shared=SharedVolume("old"), install=False)),
        "least": (a_pipeline(a_step("a")), EmitOptions()),
    }
    for name, (pipeline, chosen) in files.items():
        (tmp_path / f"{name}.yaml").write_text(pipeline_yaml(pipeline, chosen), encoding="utf-8")

    assert kfp_errors(tmp_path) == {}


def test_the_check_finds_what_it_is_for(tmp_path):
    first, second = documents(without_programs(pipeline_yaml(EVERYTHING, EmitOptions())))
    damages = {
        "unknown field": lambda: first["root"].update(bogus=1),
        "no component": lambda: first["components"].pop("comp-load"),
        "ghost": lambda: first["root"]["dag"]["tasks"]["train"]["dependentTasks"].append("ghost"),
        "wrong key": lambda: first["root"]["dag"]["tasks"]["train"]["inputs"]["artifacts"]["values_of_load"][
            "taskOutputArtifact"
        ].update(outputArtifactKey="z"),
        "lost edge": lambda: first["root"]["dag"]["tasks"]["train"]["dependentTasks"].remove("load"),
        "platform field": lambda: second["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"].update(
            pvcMounts=[]
        ),
    }
    text = yaml.safe_dump_all([first, second])
    for name, damage in damages.items():
        first, second = documents(text)
        damage()
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump_all([first, second]), encoding="utf-8")

    assert kfp_errors(tmp_path).keys() == damages.keys()


PARAMETERS = {
    "i": -7, "big": 2**53, "f": 2.0, "s": "it's \"x\"\n\\ {{x}} ü", "b": False,
    "l": [1, 2.0, "a'b", [True]], "d": {"z": 1, "a": 2.5}, "kalec_runtime": 1,
}  # fmt: skip


def test_parameters_arrive_as_what_they_were_and_values_travel(tmp_path):
    first = a_step(
        "first",
        f"assert [i, big, f, s, b, l, d, nothing, kalec_runtime] == {[*list(PARAMETERS.values())[:7], 'given', 1]!r}\n"
        "assert repr([f, l, d]) == " + repr(repr([PARAMETERS["f"], PARAMETERS["l"], PARAMETERS["d"]])) + "\n"
        "assert '{{$.x}}'[2] == chr(36)\n"
        "a = [1]; both = (a, a)\n",
        writes=["a", "both"], parameters=[*PARAMETERS, "nothing"],
    )  # fmt: skip
    second = a_step(
        "second",
        "assert both[0] is both[1] is a\na.append(int(i))\nprint(f'sum {sum(a)}')\n",
        reads=[("a", "first"), ("both", "first")], parameters=["i"], metrics=["sum(a)", "float('nan')"], report=True,
    )  # fmt: skip
    pipeline = a_pipeline(
        first,
        second,
        parameters=[*(a_parameter(*item) for item in PARAMETERS.items()), a_parameter("nothing", None, "str")],
    )
    file = tmp_path / "p.yaml"
    file.write_text(pipeline_yaml(pipeline, EmitOptions()), encoding="utf-8")
    outputs = run_with_kfp(file, tmp_path / "root", nothing="given")  # kfp.local cannot leave one out

    assert outputs["second"]["metrics"] == {"sum(a)": -6}
    assert "sum -6" in next(tmp_path.glob("root/*/second/report")).read_text(encoding="utf-8")


def test_values_travel_on_a_shared_volume_and_paths_on_it_are_found_where_it_is(tmp_path):
    volume = Volume("work", VolumeKind.EXISTING, "/work-of-nobody")
    pipeline = a_pipeline(
        a_step("a", "x = {'k': 2}\nopen('/work-of-nobody/seen', 'w').close()\n", writes=["x"]),
        a_step("b", reads=[("x", "a")], metrics=["x['k']"]),
        volumes=(volume,),
    )
    file, folder = tmp_path / "p.yaml", tmp_path / "mounted"
    folder.mkdir()
    file.write_text(pipeline_yaml(pipeline, EmitOptions(shared=SharedVolume("work"), install=False)), encoding="utf-8")
    environment = {"KALEC_PATHS": json.dumps({"/work-of-nobody": str(folder)})}
    outputs = run_with_kfp(file, tmp_path / "root", environment=environment)

    assert outputs["b"]["metrics"] == {"x['k']": 2}
    assert (folder / "seen").exists()
    assert list(folder.glob(".kalec/*/a/manifest.json"))


def notebooks_of_kale():
    """Those in its wheel, as they are."""
    kfp_python()
    found = sorted((site_packages() / "kale/tests/assets/notebooks").glob("*.ipynb"))
    assert len(found) == 3
    return found


def test_all_notebooks_in_kales_wheel_compile_as_they_are_and_kfp_has_nothing_against_them(tmp_path):
    for notebook in notebooks_of_kale():
        text = pipeline_yaml(load_pipeline(notebook).pipeline, EmitOptions())
        (tmp_path / f"{notebook.stem}.yaml").write_text(text, encoding="utf-8")

    assert kfp_errors(tmp_path) == {}


def test_all_notebooks_in_kales_wheel_run_here_as_they_are(tmp_path, capfd):
    for notebook in notebooks_of_kale():
        shutil.copy(notebook, tmp_path)
        assert run(["run", str(tmp_path / notebook.name)]) == 0

    metrics = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert [line[:2] for line in metrics] == [["sum_matrix", name] for name in ("d1", "d2", "sum_result")]
    assert 0 < float(metrics[2][2]) < float(metrics[0][2]) * float(metrics[1][2])


def test_a_notebook_of_kale_runs_with_other_parameters_than_its_own(tmp_path):
    notebook = next(found for found in notebooks_of_kale() if found.stem == "pipeline_parameters_and_metrics")
    file = tmp_path / "p.yaml"
    file.write_text(pipeline_yaml(load_pipeline(notebook).pipeline, EmitOptions(install=False)), encoding="utf-8")
    metrics = run_with_kfp(file, tmp_path / "root", d1=1, d2=1)["sum-matrix"]["metrics"]

    assert (metrics["d1"], metrics["d2"]) == (1, 1)
    assert 0 < metrics[next(name for name in metrics if name.startswith("sum"))] < 1
