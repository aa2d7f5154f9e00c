"""kalec serve: the YAML of a service that answers with a model."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Protocol(StrEnum):
    """The protocol that a service speaks."""

    V1 = "v1"
    V2 = "v2"


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the service.")],
    uri: Annotated[str, typer.Argument(metavar="URI", help="Where the model is; on a volume: pvc://CLAIM/PATH.")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="The file to write, or - for standard output. [NAME.yaml]")
    ] = "",
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; end with 1 when the file is not right.")
    ] = False,
    model_type: Annotated[
        str,
        typer.Option("--type", metavar="TYPE", help="A format of KServe, or the model's class, as sklearn.svm.SVC."),
    ] = "",
    format_version: Annotated[str, typer.Option("--format-version", help="The version of the format.")] = "",
    runtime: Annotated[
        str, typer.Option("--runtime", help="The serving runtime. [KServe's choice for the format]")
    ] = "",
    protocol: Annotated[Protocol | None, typer.Option("--protocol", help="The protocol that it speaks.")] = None,
    namespace: Annotated[str, typer.Option("--namespace", help="The namespace of the service.")] = "",
    service_account: Annotated[str, typer.Option("--service-account", help="Who may read the model's store.")] = "",
    limit: Annotated[
        list[str] | None, typer.Option("--limit", help="RESOURCE=QUANTITY, as memory=4Gi; repeatable.")
    ] = None,
    request: Annotated[list[str] | None, typer.Option("--request", help="RESOURCE=QUANTITY; repeatable.")] = None,
    min_replicas: Annotated[
        int | None, typer.Option("--min-replicas", min=0, help="The fewest; 0 sleeps when idle.")
    ] = None,
    max_replicas: Annotated[int | None, typer.Option("--max-replicas", min=0, help="The most; 0 is no bound.")] = None,
) -> None:
    """Write an InferenceService of KServe for a model on a volume or under a URI."""
    from kalec.commands.output import put
    from kalec.emit.serving import Service, service_yaml

    service = Service(
        name=name,
        uri=uri,
        model_type=model_type,
        format_version=format_version,
        runtime=runtime,
        protocol=protocol.value if protocol else "",
        namespace=namespace,
        service_account=service_account,
        limits=_amounts(limit or ()),
        requests=_amounts(request or ()),
        min_replicas=min_replicas,
        max_replicas=max_replicas,
    )
    put(service_yaml(service), output, Path(f"{name}.yaml"), check=check, source="the command line")


def _amounts(texts: "list[str] | tuple[()]") -> dict[str, str]:
    from kalec.errors import Refused

    amounts = {}
    for text in texts:
        resource, equals, quantity = text.partition("=")
        if not (resource and equals and quantity):
            raise Refused(f"{text!r} is no RESOURCE=QUANTITY", hint="write it as memory=4Gi")
        amounts[resource] = quantity
    return amounts
