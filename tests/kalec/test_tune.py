"""kalec tune: the rules of Katib, the Experiment, and what a trial does."""

import json
from types import SimpleNamespace

import pytest
from pipelines import a_parameter, a_pipeline, a_step, documents

from kalec.cli import run
from kalec.emit.katib import TrialOptions, experiment_yaml
from kalec.emit.options import EmitOptions
from kalec.emit.trial import run_trial
from kalec.emit.tuning import check_tuning
from kalec.findings import Findings
from kalec.model import Tuning, TuningParameter

PIPELINE = a_pipeline(
    a_step("load", writes=["x"]),
    a_step("train", reads=[("x", "load")], parameters=["lr", "depth", "kind"], metrics=["accuracy", "loss"]),
    parameters=[
        a_parameter("lr", 0.1), a_parameter("depth", 3), a_parameter("kind", "a"), a_parameter("on", True),
        a_parameter("names", ["x"]),
    ],
)  # fmt: skip
LR = TuningParameter("lr", "double", "0.01", "0.1", "0.03")
DEPTH = TuningParameter("depth", "int", "1", "4")
KIND = TuningParameter("kind", "categorical", choices=("a", "b"))
TUNING = Tuning((LR, DEPTH, KIND), "accuracy", "maximize", 0.99, ("loss",), "random", {"random_state": "1"})


def found(tuning, pipeline=PIPELINE):
    findings = Findings()
    check_tuning(pipeline, tuning, findings)
    return {finding.code for finding in findings.sorted()}


def test_a_tuning_that_fits_has_nothing_against_it():
    assert found(TUNING) == set()


def changed(**changes):
    return TUNING._replace(**changes)


@pytest.mark.parametrize(
    "tuning",
    [
        changed(parameters=(LR._replace(name="Lr"),)), changed(parameters=(LR._replace(name="names"),)),
        changed(parameters=(TuningParameter("kind", "int", "1", "2"),)),
        changed(parameters=(TuningParameter("depth", "double", "1", "2"),)),
        changed(parameters=(TuningParameter("depth", "discrete", choices=("1", "1.5")),)),
        changed(parameters=(TuningParameter("on", "categorical", choices=("yes",)),)),
        changed(objective="auc"), changed(additional_metrics=("f1",)),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_pipeline_is_found(tuning):
    assert found(tuning) == {"KLC311"}


def test_a_required_parameter_must_be_tuned():
    pipeline = PIPELINE._replace(parameters=(*PIPELINE.parameters, a_parameter("n", None, "int", required=True)))

    assert found(TUNING, pipeline) == {"KLC311"}


@pytest.mark.parametrize(
    "tuning",
    [
        changed(max_trials=2), changed(max_failed_trials=-1), changed(max_failed_trials=13), changed(parallel_trials=0),
        changed(objective_type="up"), changed(additional_metrics=("accuracy",)), changed(objective=""),
        changed(parameters=()), changed(parameters=(LR, LR)),
        changed(parameters=(LR._replace(choices=("1",)),)), changed(parameters=(LR._replace(maximum=""),)),
        changed(parameters=(LR._replace(minimum="x"),)), changed(parameters=(LR._replace(minimum="2"),)),
        changed(parameters=(LR._replace(step="0"),)), changed(parameters=(DEPTH._replace(minimum="1.5"),)),
        changed(parameters=(KIND._replace(choices=()),)), changed(parameters=(KIND._replace(step="1"),)),
        changed(parameters=(LR._replace(type="floating"),)),
        changed(algorithm=""), changed(algorithm="randon"), changed(algorithm_settings={"seed": "1"}),
        changed(algorithm_settings={"random_state": "-1"}),
        changed(algorithm="bayesianoptimization", algorithm_settings={"acq_func": "UCB"}),
        changed(algorithm="tpe", algorithm_settings={"gamma": "2"}),
        changed(algorithm="grid", algorithm_settings={}, max_trials=33),
        changed(algorithm="grid", algorithm_settings={}, parameters=(LR._replace(step=""),)),
        changed(algorithm="cmaes", algorithm_settings={}, parameters=(LR, KIND)),
        changed(algorithm="hyperband", algorithm_settings={"r_l": "9"}),
        changed(algorithm="hyperband", algorithm_settings={"r_l": "9", "resource_name": "nothing"}, parallel_trials=9),
        changed(algorithm="hyperband", algorithm_settings={"r_l": "9", "resource_name": "depth"}, parallel_trials=8),
        changed(algorithm="pbt", algorithm_settings={"n_population": "5"}),
    ],
)  # fmt: skip
def test_what_katib_refuses_is_found(tuning):
    assert found(tuning) == {"KLC312"}


@pytest.mark.parametrize(
    "tuning",
    [
        changed(algorithm="grid", algorithm_settings={}, max_trials=32),
        changed(algorithm="hyperband", algorithm_settings={"r_l": "9", "resource_name": "depth"}, parallel_trials=9),
        changed(algorithm="sobol", algorithm_settings={}), changed(goal=None, additional_metrics=()),
        changed(parameters=(TuningParameter("on", "categorical", choices=("True", "false")),)),
    ],
)  # fmt: skip
def test_what_katib_takes_is_let_through(tuning):
    assert found(tuning) == set()


def written(tuning=TUNING, **trial):
    return documents(experiment_yaml(PIPELINE, tuning, EmitOptions(), TrialOptions(**trial)))


def test_every_reference_of_the_job_is_a_trial_parameter_and_every_one_is_used():
    template = written()[1]["spec"]["trialTemplate"]
    names = [parameter["name"] for parameter in template["trialParameters"]]
    arguments = template["trialSpec"]["spec"]["template"]["spec"]["containers"][0]["args"]

    assert [parameter["reference"] for parameter in template["trialParameters"]] == [
        "${trialSpec.Name}", "lr", "depth", "kind",
    ]  # fmt: skip
    assert arguments == [
        f"${{trialParameters.{names[0]}}}",
        *(f"{name}=${{trialParameters.{name}}}" for name in names[1:]),
    ]


def test_the_configmap_has_the_pipeline_in_which_steps_with_metrics_run_every_time():
    files, experiment = written(namespace="team")
    tasks = documents(files["data"]["pipeline.yaml"])[0]["root"]["dag"]["tasks"]
    mounted = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["volumes"][0]["configMap"][
        "name"
    ]

    assert tasks["load"]["cachingOptions"] == {"enableCache": True}
    assert tasks["train"]["cachingOptions"] == {}
    assert mounted == files["metadata"]["name"]
    assert files["metadata"]["namespace"] == experiment["metadata"]["namespace"] == "team"
    assert json.loads(files["data"]["trial.json"])["metrics"] == ["accuracy", "loss"]
    compile(files["data"]["trial.py"], "trial.py", "exec")


class Cluster:
    """A KFP and a Kubernetes that remember what they were asked."""

    def __init__(self, state="SUCCEEDED", logs=("kalec: metric accuracy=0.5\nkalec: metric loss=1e-05\n", "driver\n")):
        self.state, self.logs, self.asked = state, logs, {}

    def create_run_from_pipeline_package(self, file, **given):
        self.asked = {"file": file, **given}
        return SimpleNamespace(run_id="r1")

    def wait_for_run_completion(self, run_id, timeout):
        return SimpleNamespace(state=self.state)

    def list_namespaced_pod(self, namespace, label_selector):
        assert label_selector == "pipeline/runid=r1"
        return SimpleNamespace(
            items=[SimpleNamespace(metadata=SimpleNamespace(name=str(n))) for n in range(len(self.logs))]
        )

    def read_namespaced_pod_log(self, pod, namespace, container):
        return self.logs[int(pod)]


SETTINGS = {
    "experiment": "lab", "host": "", "metrics": ["accuracy", "loss"],
    "types": {"lr": "float", "depth": "int", "kind": "str", "on": "bool"},
}  # fmt: skip


def test_a_trial_runs_the_pipeline_with_typed_values_and_prints_its_metrics(capsys):
    cluster = Cluster()
    code = run_trial(["t-1", "lr=0.01", "depth=3", "kind=a=b", "on=True"], SETTINGS, "team", cluster, cluster)

    assert code == 0
    assert cluster.asked == {
        "file": "/kalec/pipeline.yaml", "arguments": {"lr": 0.01, "depth": 3, "kind": "a=b", "on": True},
        "run_name": "t-1", "experiment_name": "lab", "namespace": "team",
    }  # fmt: skip
    assert capsys.readouterr().out == "accuracy=0.5\nloss=1e-05\n"


@pytest.mark.parametrize("cluster", [Cluster(state="FAILED"), Cluster(logs=("kalec: metric loss=1\n",))])
def test_a_trial_without_a_result_has_failed(cluster, capsys):
    assert run_trial(["t-1"], SETTINGS, "team", cluster, cluster) == 1
    assert capsys.readouterr().err.startswith("kalec: ")


def notebook(folder, katib):
    cells = [
        {"cell_type": "code", "metadata": {"tags": ["pipeline-parameters"]}, "source": "lr = 0.1"},
        {"cell_type": "code", "metadata": {"tags": ["step:train"]}, "source": "accuracy = lr"},
        {"cell_type": "code", "metadata": {"tags": ["pipeline-metrics"]}, "source": "print(accuracy)"},
    ]
    metadata = {"kubeflow_notebook": {"pipeline_name": "iris", **({"katib_metadata": katib} if katib else {})}}
    path = folder / "iris.ipynb"
    path.write_text(
        json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8"
    )
    return path


KATIB = {
    "parameters": [{"name": "lr", "parameterType": "double", "feasibleSpace": {"min": "0.1", "max": "0.9"}}],
    "objective": {"type": "maximize", "objectiveMetricName": "accuracy"},
    "algorithm": {"algorithmName": "random"},
}


def tune(*arguments):
    return run(["tune", *map(str, arguments)])


def test_the_command_writes_the_experiment_and_flags_beat_the_notebook(tmp_path, capsys):
    tune(notebook(tmp_path, KATIB), "--max-trials", "7", "--parallel-trials", "2", "--name", "other")
    _, experiment = documents((tmp_path / "iris.experiment.yaml").read_text(encoding="utf-8"))

    assert experiment["metadata"]["name"] == "other"
    assert (experiment["spec"]["maxTrialCount"], experiment["spec"]["parallelTrialCount"]) == (7, 2)
    assert capsys.readouterr() == ("", "")


def test_a_notebook_without_tuning_or_with_a_wrong_one_writes_nothing(tmp_path, capsys):
    assert tune(notebook(tmp_path, None)) == 2
    assert "nothing to tune" in capsys.readouterr().err
    assert tune(notebook(tmp_path, KATIB | {"algorithm": {"algorithmName": "magic"}})) == 1
    assert not list(tmp_path.glob("*.yaml"))
