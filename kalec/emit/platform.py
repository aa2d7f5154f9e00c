"""The Kubernetes platform document: what of a pipeline only Kubernetes knows, as kfp-kubernetes writes it."""

from collections.abc import Mapping, Sequence

from kalec.emit.claims import Claim
from kalec.emit.options import EmitOptions
from kalec.emit.yamltext import Value
from kalec.model import Pipeline, Secret, SecurityContext, Step


def platform_document(
    pipeline: Pipeline, executors: Mapping[str, str], claims: Sequence[Claim], options: EmitOptions
) -> Mapping[str, Value] | None:
    """The document, from the executor of each step; None when there is nothing to say."""
    configurations: dict[str, Value] = {}
    for step in pipeline.steps:
        configuration = _executor(step, pipeline, claims, options)
        if configuration:
            configurations[executors[step.name]] = configuration
    content: dict[str, Value] = {}
    if configurations:
        content["deploymentSpec"] = {"executors": configurations}
    if pipeline.settings.timeout_seconds:
        content["pipelineConfig"] = {"activeDeadlineSeconds": pipeline.settings.timeout_seconds}
    return {"platforms": {"kubernetes": content}} if content else None


def _executor(step: Step, pipeline: Pipeline, claims: Sequence[Claim], options: EmitOptions) -> dict[str, Value]:
    settings = step.settings
    said: dict[str, Value] = {
        "activeDeadlineSeconds": settings.timeout_seconds,
        "imagePullPolicy": options.image_pull_policy,
        "imagePullSecret": [_pull_secret(name) for name in options.image_pull_secrets],
        "nodeSelector": {"labels": _sorted(settings.node_selector)} if settings.node_selector else None,
        "podMetadata": _pod_metadata(step),
        "pvcMount": [claim.mount() for claim in claims],
        "secretAsEnv": [_secret(secret) for secret in settings.secrets],
        "securityContext": _security_context(pipeline.settings.security_context),
        "tolerations": [
            {
                **({"effect": toleration.effect} if toleration.effect else {}),
                **({"key": toleration.key} if toleration.key else {}),
                "operator": "Equal" if toleration.value else "Exists",
                **({"value": toleration.value} if toleration.value else {}),
            }
            for toleration in options.tolerations
        ],
    }
    return {key: value for key, value in said.items() if value}


def _pod_metadata(step: Step) -> dict[str, Value]:
    both = {"annotations": step.settings.annotations, "labels": step.settings.labels}
    return {key: _sorted(value) for key, value in both.items() if value}


def _secret(secret: Secret) -> Mapping[str, Value]:
    return {
        "keyToEnv": [{"envVar": secret.variable, "secretKey": secret.key}],
        "optional": False,
        "secretName": secret.name,
        "secretNameParameter": {"runtimeValue": {"constant": secret.name}},
    }


def _pull_secret(name: str) -> Mapping[str, Value]:
    return {"secretName": name, "secretNameParameter": {"runtimeValue": {"constant": name}}}


def _security_context(context: SecurityContext | None) -> Mapping[str, Value] | None:
    if context is None:
        return None
    return {
        "runAsGroup": context.run_as_group,
        "runAsNonRoot": context.run_as_non_root,
        "runAsUser": context.run_as_user,
    }


def _sorted(mapping: Mapping[str, str]) -> Mapping[str, Value]:
    return dict(sorted(mapping.items()))
