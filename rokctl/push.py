"""Pushing from the command line: where to, how, one at a time; used by `snapshot push` and `snapshot create --push`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.units import format_size
from engine.values import dataclass
from rokctl.wiring import Session, settings

if TYPE_CHECKING:
    from engine.device.base import Pool, Snapshot
    from engine.ops.push import PushOptions
    from engine.repo.naming import ObjectName
    from engine.repo.repository import Repository
    from rokctl.names import SnapshotName, VolumeName


@dataclass(frozen=True, slots=True)
class PushFlags:
    """What the command line says of a push; None and empty leave it to the configuration."""

    labels: dict[str, str]
    message: str
    compression: int | None
    full: bool
    limit_read: int | None
    limit_upload: int | None


@dataclass(frozen=True, slots=True)
class Pusher:
    """A repository that is open and an object that this process alone on this node pushes to."""

    session: Session
    repository: "Repository"
    destination: "ObjectName"
    options: "PushOptions"

    def push(self, snapshots: "Sequence[tuple[Pool, Snapshot]]") -> None:
        """Push, and report it."""
        from engine.ops.push import push

        with self.session.progress() as progress:
            report = push(
                self.repository,
                snapshots,
                self.destination,
                self.options,
                node=self.session.node,
                tool=self.session.tool,
                progress=progress,
            )
        sentence = (
            f"{report.bucket}/{report.object}@{report.version}: {report.outcome.value} ("
            f"{format_size(report.data)} of data, {format_size(report.read)} read, {format_size(report.stored)} stored, "
            f"{report.seconds:.1f} s)"
        )
        self.session.output.result(sentence, report)


@contextmanager
def open_push(session: Session, destination: "ObjectName", flags: PushFlags) -> Iterator[Pusher]:
    """Make ready to push to `destination`, before anything is done to a volume: what can be refused is refused here."""
    from rokctl.lock import exclusive

    with session.repository(uses="engine.ops.push", limit_upload=flags.limit_upload) as repository:
        options = _push_options(session, flags)
        name = f"{destination} in {repository.url}"
        locks = session.state_directory / "locks"
        with exclusive(locks, name, wait=not session.flags.no_wait, talk=session.output.talk):
            yield Pusher(session, repository, destination, options)


def choose_destination(
    session: Session, text: str | None, volumes: "Sequence[SnapshotName | VolumeName]"
) -> "ObjectName":
    """`BUCKET/OBJECT`, or as much of it as was given: else the configured bucket or the pool, and the volumes' names.

    A group is called by its names in order of the alphabet, so that the same volumes are the same object. Raises Refused.
    """
    from engine.repo.naming import ObjectName, check_part, parse_bucket_or_object

    bucket, name = parse_bucket_or_object(text) if text else (None, None)
    bucket = bucket or session.config.push.bucket or volumes[0].pool
    name = name or "+".join(sorted({volume.volume for volume in volumes}))
    return ObjectName(check_part("bucket", bucket), check_part("object", name))


def _push_options(session: Session, flags: PushFlags) -> "PushOptions":
    from engine.ops.push import PushOptions

    configured = session.config.push
    return PushOptions(
        labels={**(configured.labels or {}), **flags.labels},
        message=flags.message,
        full=flags.full,
        read_limit=session.read_limit(flags.limit_read),
        **settings(
            level=flags.compression or configured.compression,
            workers=configured.workers,
            uploaders=configured.uploaders,
        ),
    )
