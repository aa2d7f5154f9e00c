"""The YAML of a pipeline, as `kfp` and the Kubeflow Pipelines API take it."""

from kalec.emit.options import EmitOptions
from kalec.emit.plan import plan_of
from kalec.emit.platform import platform_document
from kalec.emit.specification import specification
from kalec.emit.yamltext import to_yaml
from kalec.model import Pipeline


def pipeline_yaml(pipeline: Pipeline, options: EmitOptions) -> str:
    """The KFP v2 specification, and the Kubernetes platform document where there is something to say in it.

    The same pipeline and options give the same bytes, anywhere and at any time. The pipeline must have passed
    `kalec.emit.limits.check`.
    """
    plan = plan_of(pipeline, options)
    text = to_yaml(specification(plan), header=_header(pipeline))
    platform = platform_document(pipeline, plan.executors, plan.claims, options)
    return text + (f"---\n{to_yaml(platform)}" if platform else "")


def _header(pipeline: Pipeline) -> str:
    said = {
        "Pipeline": pipeline.name,
        "Source": pipeline.source,
        "Experiment": pipeline.experiment,
        "Description": pipeline.description,
    }
    steps = "".join(
        f"\n  {step.name}" + (f" after {', '.join(step.after)}" if step.after else "") for step in pipeline.steps
    )
    told = "\n".join(f"{key}: {value}" for key, value in said.items() if value)
    return f"Compiled by kalec; change the source and compile again.\n{told}\nSteps:{steps}"
