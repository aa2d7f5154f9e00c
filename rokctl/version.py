"""`rokctl version`: list and show the versions of a repository."""

from typing import TYPE_CHECKING, Annotated

import typer

from engine.units import format_size
from rokctl.options import LabelsOption, command, noun, parse_labels
from rokctl.render import Amount, plain
from rokctl.wiring import Session

if TYPE_CHECKING:
    from engine.repo.manifest import Manifest, Member

app = noun("Versions of objects in a repository.")


@command(app, "list")
def list_versions(
    session: Session,
    target: Annotated[
        str | None, typer.Argument(metavar="[BUCKET[/OBJECT]]", help="Only of this bucket or object.")
    ] = None,
    label: LabelsOption = None,
) -> None:
    """List versions, oldest first."""
    from engine.repo.naming import parse_bucket_or_object

    bucket, name = parse_bucket_or_object(target) if target else (None, None)
    wanted = parse_labels(label).items()
    with session.repository() as repository:
        found = repository.versions(bucket, name)
    session.output.listing(
        [manifest for manifest in found if wanted <= manifest.labels.items()],
        {
            "OBJECT": lambda manifest: manifest.object,
            "VERSION": lambda manifest: manifest.version,
            "CREATED": lambda manifest: manifest.created,
            "SIZE": lambda manifest: Amount(manifest.totals.size),
            "DATA": lambda manifest: Amount(manifest.totals.data),
            "STORED": lambda manifest: Amount(manifest.totals.stored),
            "NODE": lambda manifest: manifest.node,
            "LABELS": lambda manifest: manifest.labels,
        },
        record,
    )


@command(app, "show")
def show(
    session: Session,
    reference: Annotated[
        str, typer.Argument(metavar="BUCKET/OBJECT[@VERSION]", help="The version; without one, the latest.")
    ],
) -> None:
    """Show a version and the volumes in it."""
    from engine.repo.naming import parse_reference

    wanted = parse_reference(reference)
    with session.repository() as repository:
        manifest = repository.resolve(wanted)
    totals = manifest.totals
    session.output.sheet(
        record(manifest),
        {
            "object": manifest.object,
            "version": manifest.version,
            "created": manifest.created,
            "node": f"{manifest.node} ({manifest.tool})",
            "message": manifest.message,
            "labels": manifest.labels,
            "base": manifest.base,
            "size": Amount(totals.size),
            "data": f"{format_size(totals.data)} in {totals.chunks} chunks",
            "pushed": f"{format_size(totals.read)} read, {format_size(totals.stored)} stored in {totals.new_chunks} new "
            f"chunks, {totals.seconds:.1f} s",
            **{f"member {member.name}": _member_line(member) for member in manifest.members},
        },
    )


def _member_line(member: "Member") -> str:
    origin = member.origin
    parts = [
        format_size(member.size),
        " ".join(filter(None, (member.filesystem_type, member.filesystem_label))) or "no filesystem known",
        "frozen" if member.frozen else "not frozen",
        f"of {origin.pool}/{origin.volume}@{origin.snapshot}",
    ]
    return ", ".join(parts)


def record(manifest: "Manifest") -> dict[str, object]:
    """A version as scripts see it: the fields of a push's report, and the rest of the manifest."""
    whole = plain(manifest)
    totals = whole.pop("totals")
    return {
        **whole.pop("extra"),
        **whole,
        "bucket": manifest.object.bucket,
        "object": manifest.object.name,
        **totals,
    }
