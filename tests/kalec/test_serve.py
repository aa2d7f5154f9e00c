"""kalec serve: an InferenceService for a model."""

import pytest
import yaml

from kalec.cli import run
from kalec.emit.serving import Service, service_yaml
from kalec.errors import Refused


def predictor(uri="pvc://models/iris/model.joblib", **said):
    return yaml.safe_load(service_yaml(Service("iris", uri, **said)))["spec"]["predictor"]


def test_a_model_on_a_volume_is_served_by_the_runtime_of_its_format():
    assert predictor() == {
        "model": {"modelFormat": {"name": "sklearn"}, "storageUri": "pvc://models/iris/model.joblib"}
    }


@pytest.mark.parametrize(
    ("uri", "model_type", "expected"),
    [
        ("s3://b/m.bst", "", "xgboost"), ("gs://b/m.onnx", "", "onnx"), ("s3://b/m.pt/", "", "pytorch"),
        ("s3://b/dir", "sklearn.svm.SVC", "sklearn"), ("s3://b/m.pkl", "xgboost.XGBClassifier", "xgboost"),
        ("s3://b/dir", "torch.nn.Module", "pytorch"), ("s3://b/dir", "keras.Model", "tensorflow"),
        ("hf://org/model", "huggingface", "huggingface"), ("s3://b/dir", "lightgbm.Booster", "lightgbm"),
    ],
)  # fmt: skip
def test_the_format_is_found_from_the_class_or_from_the_name_of_the_file(uri, model_type, expected):
    assert predictor(uri, model_type=model_type)["model"]["modelFormat"]["name"] == expected


def test_everything_that_is_said_stands_where_kserve_looks():
    assert predictor(
        format_version="1", runtime="kserve-mlserver", protocol="v2", service_account="s3",
        limits={"memory": "4Gi", "cpu": "2"}, requests={"cpu": "1"}, min_replicas=0, max_replicas=3,
    ) == {
        "maxReplicas": 3, "minReplicas": 0, "serviceAccountName": "s3",
        "model": {
            "modelFormat": {"name": "sklearn", "version": "1"}, "protocolVersion": "v2", "runtime": "kserve-mlserver",
            "resources": {"limits": {"cpu": "2", "memory": "4Gi"}, "requests": {"cpu": "1"}},
            "storageUri": "pvc://models/iris/model.joblib",
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    "service",
    [
        Service("Iris", "s3://b/m.pkl"), Service("a" * 64, "s3://b/m.pkl"), Service("iris", "/models/m.pkl"),
        Service("iris", "ftp://b/m.pkl"), Service("iris", "s3:///"), Service("iris", "s3://b/model"),
        Service("iris", "s3://b/m", "statsmodels.OLS"), Service("iris", "s3://b/m.pkl", limits={"cpu": "many"}),
        Service("iris", "s3://b/m.pkl", min_replicas=3, max_replicas=2), Service("iris", "s3://b/a b.pkl"),
    ],
)  # fmt: skip
def test_what_would_not_be_served_is_refused(service):
    with pytest.raises(Refused):
        service_yaml(service)


def test_the_command_writes_checks_and_prints(tmp_path, capfd):
    file = tmp_path / "iris.yaml"
    arguments = ["serve", "iris", "pvc://models/m.joblib", "--limit", "memory=4Gi"]
    assert run([*arguments, "-o", str(file)]) == 0
    assert run([*arguments, "-o", str(file), "--check"]) == 0
    assert run([*arguments, "-o", "-"]) == 0
    assert capfd.readouterr().out == file.read_text(encoding="utf-8")

    assert run([*arguments, "--protocol", "v2", "-o", str(file), "--check"]) == 1
    assert run(["serve", "iris", "s3://b/m.pkl", "--limit", "memory"]) == 2
