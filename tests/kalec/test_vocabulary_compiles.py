"""Notebooks in the words of Kale 0.x and 2.x, a row of what Kale can do each: they compile, keep what they say, and run."""

import json
import sys

import pytest
from kfpenvironment import kfp_errors, without_programs
from pipelines import documents

from kalec.cli import run
from kalec.emit.compilation import CompileRequest, compile_sources
from kalec.emit.options import EmitOptions, SharedVolume


class Compilation:
    """What became of a notebook: its tasks, and what their containers are told."""

    def __init__(self, folder, cells, metadata=None, options=None, module=None):
        source = write(folder, cells, metadata, module=module)
        request = CompileRequest(sys.path, options=options or EmitOptions())
        [self.compiled] = compile_sources([source], request)
        self.codes = {finding.code for finding in self.compiled.diagnostics}
        assert self.compiled.text, self.compiled.diagnostics
        first, *rest = documents(self.compiled.text)
        self.name = first["pipelineInfo"]["name"]
        self.inputs = first["root"].get("inputDefinitions", {}).get("parameters", {})
        self.tasks = first["root"]["dag"]["tasks"]
        self.components = first["components"]
        self.containers = {
            name.removeprefix("exec-"): executor["container"]
            for name, executor in first["deploymentSpec"]["executors"].items()
        }
        self.platform = rest[0]["platforms"]["kubernetes"] if rest else {}

    def pod(self, task):
        return self.platform["deploymentSpec"]["executors"][f"exec-{task}"]

    def after(self, task):
        return self.tasks[task].get("dependentTasks", [])

    def program(self, task):
        return self.containers[task]["command"][-1]


def write(folder, cells, metadata=None, options=None, module=None):
    source = folder / ("pipeline.py" if module else "notebook.ipynb")
    source.write_text(module or as_notebook(cells, metadata), encoding="utf-8")
    return source


def as_notebook(cells, metadata=None):
    made = []
    for tags, source in cells:
        about = {"tags": tags.split()} if isinstance(tags, str) else tags
        made.append({"cell_type": "code", "metadata": about, "source": source, "outputs": [], "execution_count": None})
    content = {"cells": made, "metadata": {"kubeflow_notebook": metadata or {}}, "nbformat": 4, "nbformat_minor": 2}
    return json.dumps(content)


def volume(**said):
    return {"mount_point": "/data", "size": 5, "size_type": "Gi", "snapshot": False, "annotations": [], **said}


STEP = [("block:load", "x = 1\n")]
ROWS = {}


def row(check):
    """A row of the table: called without a compilation it gives what to compile, and with one it holds it to its word."""
    ROWS[check.__name__] = check
    return check


@row
def all_tags_of_cells(done=None):
    if done is None:
        return {
            "cells": [
                ("", "left = 'out'\n"), ("skip", "raise SystemExit\n"), ("imports", "import json\n"),
                ("functions", "def double(v):\n    return 2 * v\n"), ("pipeline-parameters", "n = 3\n"),
                ("block:load", "x = double(n)\n"), ("", "x += 1\n"), ("block:dump prev:load", "print(json.dumps(x))\n"),
                ("pipeline-metrics", "print(x)\n"),
            ]
        }  # fmt: skip
    assert done.after("dump") == ["load"]
    assert "x += 1" in done.program("load")
    assert "def double" in done.program("load")
    assert "left = 'out'" not in done.compiled.text
    return "raise SystemExit" not in done.compiled.text


@row
def an_edge_without_data_is_kept(done=None):
    if done is None:
        return {"cells": [("block:a", "x = 1\n"), ("block:b", "y = 1\n"), ("block:c prev:a prev:b", "z = x\n")]}
    assert done.after("c") == ["a", "b"]
    return done.after("b") == []


@row
def labels_and_annotations_keep_their_colons(done=None):
    if done is None:
        return {"cells": [("block:a annotation:url:http://x:80/y label:tier:gold", "x = 1\n")]}
    return done.pod("a")["podMetadata"] == {"annotations": {"url": "http://x:80/y"}, "labels": {"tier": "gold"}}


@row
def limits_of_any_resource(done=None):
    if done is None:
        return {"cells": [("step:a limit:nvidia.com/gpu:1 limit:memory:4Gi limit:cpu:500m", "x = 1\n")]}
    resources = done.containers["a"]["resources"]
    return (resources["accelerator"]["resourceType"], resources["resourceMemoryLimit"], resources["cpuLimit"]) == (
        "nvidia.com/gpu", "4Gi", 0.5,
    )  # fmt: skip


@row
def image_cache_report_and_secret(done=None):
    if done is None:
        return {"cells": [("step:a image:mine:2 cache:disabled report:enabled secret:s3:key:S3_KEY", "x = 1\n")]}
    assert done.containers["a"]["image"] == "mine:2"
    assert done.tasks["a"]["cachingOptions"] == {}
    assert "report" in done.components["comp-a"]["outputDefinitions"]["artifacts"]
    return done.pod("a")["secretAsEnv"][0]["keyToEnv"] == [{"envVar": "S3_KEY", "secretKey": "key"}]


@row
def tags_of_other_programs(done=None):
    if done is None:
        return {"cells": [("parameters", "q = 1\n"), ("step:a hide-input", "x = 1\n")]}
    return "KLC011" in done.codes


@row
def names_and_the_image_of_the_first_generation(done=None):
    if done is None:
        return {
            "cells": STEP,
            "metadata": {
                "pipeline_name": "titanic", "pipeline_description": "who survives", "docker_image": "theirs:1",
                "experiment": {"id": "new", "name": "lab"}, "experiment_name": "lab",
            },
        }  # fmt: skip
    assert (done.name, done.containers["load"]["image"]) == ("titanic", "theirs:1")
    return "# Experiment: lab\n# Description: who survives\n" in done.compiled.text


@row
def volumes_of_every_type(done=None):
    if done is None:
        return {
            "cells": STEP,
            "metadata": {
                "volumes": [
                    volume(name="there", type="pvc", expose_as_env_var=True),
                    volume(name="new", type="new_pvc", mount_point="/n"),
                    volume(name="copy", type="clone", mount_point="/c"), volume(name="disk", type="pv", mount_point="/p"),
                ],
                "storage_class_name": "fast", "volume_access_mode": "rwo",
            },
        }  # fmt: skip
    assert [mount["mountPath"] for mount in done.pod("load")["pvcMount"]] == ["/data", "/n", "/c", "/p"]
    assert done.containers["load"]["env"] == [{"name": "KALE_VOLUME_THERE", "value": "/data"}]
    given = done.tasks["createpvc"]["inputs"]["parameters"]
    assert given["storage_class_name"]["runtimeValue"]["constant"] == "fast"
    assert given["access_modes"]["runtimeValue"]["constant"] == ["ReadWriteOnce"]
    return [task for task in done.tasks if task.startswith("createpvc")] == ["createpvc", "createpvc-2", "createpvc-3"]


@row
def snapshots_are_noted(done=None):
    if done is None:
        return {"cells": STEP, "metadata": {"snapshot_volumes": True, "autosnapshot": True}}
    return "KLC305" in done.codes


@row
def defaults_of_steps(done=None):
    if done is None:
        return {
            "cells": [("block:a", "x = 1\n"), ("block:b prev:a label:tier:own", "y = x\n")],
            "metadata": {"steps_defaults": ["label:tier:common", "limit:memory:1Gi"]},
        }
    assert done.pod("a")["podMetadata"]["labels"] == {"tier": "common"}
    assert done.pod("b")["podMetadata"]["labels"] == {"tier": "own"}
    return done.containers["b"]["resources"]["resourceMemoryLimit"] == "1Gi"


@row
def settings_of_the_whole_run(done=None):
    if done is None:
        return {
            "cells": STEP,
            "metadata": {
                "timeout": 3600, "abs_working_dir": "/home/jovyan", "kfp_host": "", "enable_caching": False,
                "output_path": "", "security_context": {"run_as_user": 1000},
            },
        }  # fmt: skip
    assert done.platform["pipelineConfig"] == {"activeDeadlineSeconds": 3600}
    assert "folder='/home/jovyan'" in done.program("load")
    assert done.tasks["load"]["cachingOptions"] == {}
    return done.pod("load")["securityContext"]["runAsUser"] == 1000


@row
def parameters_of_every_kind(done=None):
    if done is None:
        cell = (
            '"""What may be set."""\nn = -3\nrate: float = .1\nnames = ["a", "b\'c"]\nnothing: str = None\n'
            "text = 'it\\'s'\non = True\ntable = {'k': [1, None]}\n"
        )
        return {
            "cells": [("pipeline-parameters", cell), ("block:a", "print(n, rate, names, nothing, text, on, table)\n")]
        }
    defaults = {name: declared.get("defaultValue") for name, declared in done.inputs.items()}
    return defaults == {
        "n": -3, "rate": 0.1, "names": ["a", "b'c"], "nothing": None, "text": "it's", "on": True, "table": {"k": [1, None]},
    }  # fmt: skip


@row
def metrics_of_any_form(done=None):
    if done is None:
        return {"cells": [*STEP, ("pipeline-metrics", 'print(x)\nprint(f"doubled: {2 * x:.2f}")\nx / 2\n')]}
    assert "2 * x" in done.program("load")
    return "metrics" in done.components["comp-load"]["outputDefinitions"]["artifacts"]


@row
def values_on_a_shared_volume(done=None):
    if done is None:
        return {
            "cells": [("block:a", "x = 1\n"), ("block:b prev:a", "print(x)\n")],
            "options": EmitOptions(shared=SharedVolume()),
        }
    return done.after("b") == ["a", "createpvc"]


@row
def a_module_with_decorators(done=None):
    if done is None:
        return {
            "cells": None,
            "module": (
                "from kale.sdk import pipeline, step\n\n\n"
                '@step(name="load", retry_count=2)\ndef load(n):\n    return n + 1\n\n\n'
                '@step(name="show")\ndef show(x):\n    print(x)\n\n\n'
                '@pipeline(name="decorated", experiment="lab")\ndef flow(n=3):\n    x = load(n)\n    show(x)\n'
            ),
        }
    assert done.name == "decorated"
    assert done.inputs["n"]["defaultValue"] == 3
    return done.after("show") == ["load"]


@pytest.mark.parametrize("name", ROWS)
def test_a_notebook_in_kales_words_compiles_and_what_it_says_is_kept(tmp_path, name):
    done = Compilation(tmp_path, **ROWS[name]())

    assert ROWS[name](done)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_it_runs_here_too(tmp_path, name, monkeypatch):
    monkeypatch.setenv("S3_KEY", "the value of a secret")
    source = write(tmp_path, **ROWS[name]())

    assert run(["run", str(source)]) == 0


def test_a_notebook_may_be_a_part_of_another_one(tmp_path):
    (tmp_path / "part.ipynb").write_text(as_notebook([("step:load", "x = 1\n")]), encoding="utf-8")
    cells = [({"tags": ["notebook:part"], "notebook_path": "part.ipynb"}, ""), ("step:show prev:part", "y = 2\n")]
    done = Compilation(tmp_path, cells)

    assert done.after("show") == [next(task for task in done.tasks if task != "show")]


@pytest.mark.slow
def test_kfp_has_nothing_against_any_of_them(tmp_path):
    for name, check in ROWS.items():
        (tmp_path / name).mkdir()
        text = Compilation(tmp_path / name, **check()).compiled.text
        (tmp_path / f"{name}.yaml").write_text(without_programs(text), encoding="utf-8")

    assert kfp_errors(tmp_path) == {}
