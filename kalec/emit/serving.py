"""A KServe InferenceService for a model on a volume or under a URI."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from kalec.emit.quantity import parse_quantity
from kalec.emit.yamltext import Value, to_yaml
from kalec.errors import Refused
from kalec.findings import did_you_mean
from kalec.model import NOTHING

FORMATS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    # KServe's model format: the packages whose classes it serves, and the endings of its files
    "sklearn": (("sklearn",), (".joblib", ".pkl", ".pickle")),
    "xgboost": (("xgboost",), (".bst", ".ubj")),
    "lightgbm": (("lightgbm",), (".lgb",)),
    "catboost": (("catboost",), (".cbm",)),
    "pytorch": (("torch", "pytorch_lightning", "lightning"), (".mar", ".pt", ".pth")),
    "tensorflow": (("tensorflow", "keras", "tf_keras"), (".pb", ".keras")),
    "onnx": (("onnx", "onnxruntime"), (".onnx",)),
    "huggingface": (("transformers",), ()),
    "pmml": (("sklearn2pmml", "pypmml"), (".pmml",)),
    "paddle": (("paddle",), (".pdmodel",)),
    "mlflow": (("mlflow",), ()),
}
"""How the runtime is found: KServe chooses one that serves the format, and `kalec serve` finds the format."""

SCHEMES: Final = ("pvc", "s3", "gs", "https", "http", "hdfs", "webhdfs", "abfs", "hf", "oci")
_NAME: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


class Service(NamedTuple):
    """What is served, and how. "" and None are KServe's own choice."""

    name: str
    uri: str  # pvc://CLAIM/PATH for a volume
    model_type: str = ""  # a format of KServe, or a class, as sklearn.svm.SVC; "" is found from the file's name
    format_version: str = ""
    runtime: str = ""
    protocol: str = ""  # v1, v2
    namespace: str = ""
    service_account: str = ""
    limits: Mapping[str, str] = NOTHING
    requests: Mapping[str, str] = NOTHING
    min_replicas: int | None = None
    max_replicas: int | None = None


def service_yaml(service: Service) -> str:
    """The InferenceService. Raises Refused for what Kubernetes or KServe would."""
    _refuse(service)
    model: dict[str, Value] = {"modelFormat": {"name": model_format(service)}, "storageUri": service.uri}
    if service.format_version:
        model["modelFormat"] = {"name": model_format(service), "version": service.format_version}
    said = {"runtime": service.runtime, "protocolVersion": service.protocol}
    model |= {key: text for key, text in said.items() if text}
    resources: dict[str, Value] = {
        key: dict(sorted(amounts.items()))
        for key, amounts in (("limits", service.limits), ("requests", service.requests))
        if amounts
    }
    if resources:
        model["resources"] = resources
    predictor: dict[str, Value] = {"model": model}
    if service.service_account:
        predictor["serviceAccountName"] = service.service_account
    replicas = {"minReplicas": service.min_replicas, "maxReplicas": service.max_replicas}
    predictor |= {key: count for key, count in replicas.items() if count is not None}
    metadata: dict[str, Value] = {"name": service.name}
    if service.namespace:
        metadata["namespace"] = service.namespace
    return to_yaml(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": metadata,
            "spec": {"predictor": predictor},
        }
    )


def model_format(service: Service) -> str:
    """The format of KServe that serves the model. Raises Refused when it cannot be told."""
    kind = service.model_type
    if kind in FORMATS:
        return kind
    package = kind.partition(".")[0]
    endings = service.uri.rstrip("/").rpartition("/")[2].lower()
    for name, (packages, suffixes) in FORMATS.items():
        if package in packages if kind else endings.endswith(suffixes or ("\0",)):
            return name
    known = ", ".join(FORMATS)
    if kind:
        raise Refused(
            f"nothing is known that serves a {kind}{did_you_mean(kind, FORMATS)}", hint=f"--type takes {known}"
        )
    raise Refused(f"the type of the model at {service.uri} cannot be told from its name", hint=f"say --type: {known}")


def _refuse(service: Service) -> None:
    if not _NAME.fullmatch(service.name):
        raise Refused(
            f"{service.name!r} cannot be the name of a service",
            hint="small letters, digits and '-', a letter first, at most 63",
        )
    scheme, separator, rest = service.uri.partition("://")
    if not separator:
        raise Refused(f"{service.uri!r} is no URI", hint="write a volume as pvc://CLAIM/PATH")
    if scheme not in SCHEMES:
        raise Refused(
            f"KServe reads no {scheme}:// URI{did_you_mean(scheme, SCHEMES)}", hint=f"it reads {', '.join(SCHEMES)}"
        )
    if not rest.strip("/") or re.search(r"\s", rest):
        raise Refused(f"{service.uri!r} names no place")
    for resource, quantity in {**service.limits, **service.requests}.items():
        if parse_quantity(quantity) is None:
            raise Refused(f"{quantity!r} is no quantity of {resource}", hint="write it as 500m, 2, 4Gi")
    low, high = service.min_replicas, service.max_replicas
    if low is not None and high is not None and 0 < high < low:
        raise Refused(f"--min-replicas is {low}, and --max-replicas {high}")
