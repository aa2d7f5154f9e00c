"""Experiments and InferenceServices against the published schemas, as the packages of Katib and KServe carry them."""

import copy

import pytest
import yaml
from kfpenvironment import site_packages
from openapi import Models
from pipelines import a_parameter, a_pipeline, a_step

from kalec.emit.katib import TrialOptions, experiment_yaml
from kalec.emit.options import EmitOptions
from kalec.emit.serving import Service, service_yaml
from kalec.model import Tuning, TuningParameter

TUNING = Tuning(
    (
        TuningParameter("lr", "double", "0.1", "0.9", "0.1"), TuningParameter("depth", "int", "1", "4"),
        TuningParameter("kind", "categorical", choices=("a", "b")),
    ),
    "accuracy", "maximize", 0.99, ("loss",), "tpe", {"random_state": "1"},
)  # fmt: skip
PIPELINE = a_pipeline(
    a_step("train", parameters=["lr"], metrics=["accuracy", "loss"]),
    parameters=[a_parameter("lr", 0.1), a_parameter("depth", 3), a_parameter("kind", "a")],
)


@pytest.fixture(scope="module")
def models():
    return Models(site_packages())


@pytest.fixture
def experiment():
    return list(yaml.safe_load_all(experiment_yaml(PIPELINE, TUNING, EmitOptions(), TrialOptions(namespace="n"))))


def test_an_experiment_its_job_and_its_configmap_are_what_katib_and_kubernetes_describe(models, experiment):
    files, katib = experiment
    job = katib["spec"]["trialTemplate"]["trialSpec"]

    assert list(models.errors(katib, "V1beta1Experiment")) == []
    assert list(models.errors(job, "V1Job")) == []
    assert list(models.errors(files, "V1ConfigMap")) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "maxTrialCnt"), 3), (("spec", "maxTrialCount"), "3"), (("spec", "objective", "goal"), "0.99"),
        (("spec", "parameters"), {}), (("spec", "parameters", 0, "feasibleSpace", "min"), 0.1),
    ],
)  # fmt: skip
def test_a_mistake_in_an_experiment_would_be_found(models, experiment, path, value):
    katib = copy.deepcopy(experiment[1])
    inner = katib
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value

    assert list(models.errors(katib, "V1beta1Experiment"))


def test_an_inference_service_is_what_kserve_describes(models):
    service = Service(
        "iris",
        "pvc://m/x.pkl",
        "sklearn.svm.SVC",
        "1",
        "kserve-mlserver",
        "v2",
        "n",
        "s",
        {"cpu": "1"},
        {"cpu": "1"},
        0,
        3,
    )
    document = yaml.safe_load(service_yaml(service))
    wrong = copy.deepcopy(document)
    wrong["spec"]["predictor"]["model"]["storageURI"] = "x"

    assert list(models.errors(document, "V1beta1InferenceService")) == []
    assert len(list(models.errors(wrong, "V1beta1InferenceService"))) == 1
