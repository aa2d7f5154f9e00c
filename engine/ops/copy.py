"""Copy versions to another repository, with another store and another key.

Ids and cuts depend on the key, so content is read, verified, cut and hashed anew, as a push would from the same volume: what
nodes push to the destination themselves deduplicates against it. Of a version whose predecessor was copied, only what
differs is read. Each version is committed on its own, oldest first: a copy that broke off is simply made again. The index of
the destination is loaded once for many versions: the session of each is the heir of the one before.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import replace
from enum import Enum
from itertools import pairwise

from engine.errors import Damaged, NotFound, Refused
from engine.ops.intake import Effort, Intake, Stored, open_session, store_contents
from engine.ops.scope import Scope, refuse_empty_scopes
from engine.ops.versionsource import HurtVersion, LostDelta, MemberContent
from engine.progress import Progress
from engine.repo.hurt import hurt_versions
from engine.repo.manifest import Manifest, Member, Totals, VersionIdentity
from engine.repo.naming import ObjectName, VersionReference
from engine.repo.repository import Repository
from engine.repo.session import Purpose, Session, open_heir
from engine.repo.tags import Tags, seal_tags, tags_of
from engine.store.base import BlobExists
from engine.values import dataclass


@dataclass(frozen=True, slots=True)
class CopyStep:
    """A version of the source, and what it is in the destination: None when it is not there yet."""

    manifest: Manifest
    there: Manifest | None


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """The versions that were chosen, oldest first; the ids of those whose manifest cannot be read, so that nobody can tell
    whose they are; and all versions of the source, and of the destination by identity, as they were.
    """

    steps: tuple[CopyStep, ...]
    unreadable: tuple[str, ...]
    source: tuple[Manifest, ...]
    destination: Mapping[VersionIdentity, Manifest]


class CopyOutcome(Enum):
    """What became of a version."""

    CREATED = "created"
    ALREADY_THERE = "already there"
    FORGOTTEN = "forgotten"  # in the source, while the copy ran
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class CopiedVersion:
    """What was done about one version. Bytes, except `new_chunks` and `seconds`.

    `version` is its id in the source, `copied_as` that in the destination. `problem` says what is damaged: the version, or
    its tags alone, when the outcome is CREATED.
    """

    bucket: str
    object: str
    version: str
    copied_as: str | None
    base: str | None
    size: int
    data: int
    read: int
    stored: int
    new_chunks: int
    seconds: float
    outcome: CopyOutcome
    problem: str


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What a copy did: versions by outcome, those created without their tags, bytes, seconds."""

    created: int
    already_there: int
    forgotten: int
    damaged: int
    tags_damaged: int
    read: int
    stored: int
    seconds: float


def plan_copy(
    source: Repository, destination: Repository, scopes: Sequence[Scope], references: Iterable[VersionReference]
) -> CopyPlan:
    """What there is to copy: the versions of the objects in the scopes, and those that are named.

    A version is in the destination already when one there was copied from it, or both from a third, or it from that one.
    Raises Refused when both are one repository; NotFound, Refused and Damaged for a scope or a name that means nothing.
    """
    if source.id == destination.id:
        raise Refused(
            f"{source.url} and {destination.url} are one and the same repository, {source.id}",
            hint="name another one with --to; `rokctl repo init` makes one",
        )
    survey = source.survey()
    refuse_empty_scopes(scopes, survey, source.url)
    named = {source.resolve(reference, survey).version for reference in references}
    hurt = hurt_versions(destination)  # a copy that has lost something is no base, and is worth making again
    whole = [manifest for manifest in destination.versions() if manifest.version not in hurt]
    there = {manifest.identity(destination.id): manifest for manifest in whole}
    chosen = [m for m in survey.manifests if m.version in named or any(scope.covers(m.object) for scope in scopes)]
    steps = tuple(CopyStep(manifest, there.get(manifest.identity(source.id))) for manifest in chosen)
    return CopyPlan(steps, tuple(survey.damaged) if scopes else (), survey.manifests, there)


def copy(
    source: Repository,
    destination: Repository,
    plan: CopyPlan,
    effort: Effort,
    *,
    node: str,
    tool: str,
    progress: Progress,
    listen: Callable[[CopiedVersion], object] = lambda _: None,
) -> CopyReport:
    """Carry out a plan, telling `listen` of each version when it is done. Nothing is written to the source.

    A version of which something is damaged is not copied, and the others are. Names, message, labels, times, node and
    origin are those of the version in the source; so are tags and pin, as they are now, and they are there from the first
    moment on. Tags that are damaged are replaced by a pin, because they may have held one.
    Raises what a push raises, and Damaged when it is the destination where something is.
    """
    begun = source.clock.monotonic()
    copier = _Copier(source, destination, plan, effort, node=node, tool=tool, progress=progress)
    done = []
    missing = [step.manifest for step in plan.steps if not step.there]
    following = {manifest.version: after for manifest, after in pairwise(missing)}
    with closing(copier):
        for step in plan.steps:
            after = following.get(step.manifest.version)
            done.append(_unchanged(step.manifest, step.there) if step.there else copier.copy(step.manifest, after))
            listen(done[-1])
    count = {outcome: sum(one.outcome is outcome for one in done) for outcome in CopyOutcome}
    return CopyReport(
        created=count[CopyOutcome.CREATED],
        already_there=count[CopyOutcome.ALREADY_THERE],
        forgotten=count[CopyOutcome.FORGOTTEN],
        damaged=count[CopyOutcome.DAMAGED] + len(plan.unreadable),
        tags_damaged=sum(one.outcome is CopyOutcome.CREATED and bool(one.problem) for one in done),
        read=sum(one.read for one in done),
        stored=sum(one.stored for one in done),
        seconds=source.clock.monotonic() - begun,
    )


@dataclass(frozen=True, slots=True)
class _Base:
    """An older version that stands in the destination, and its members by name: in the source, and there."""

    there: Manifest
    members: Mapping[str, tuple[Member, Member]]


class _Copier:
    """Copies one version after the other; each is the base of the next one of its object."""

    def __init__(
        self,
        source: Repository,
        destination: Repository,
        plan: CopyPlan,
        effort: Effort,
        *,
        node: str,
        tool: str,
        progress: Progress,
    ) -> None:
        self._source, self._destination, self._effort = source, destination, effort
        self._node, self._tool, self._progress = node, tool, progress
        self._there = dict(plan.destination)
        self._objects: dict[ObjectName, list[Manifest]] = {}
        for manifest in plan.source:
            self._objects.setdefault(manifest.object, []).append(manifest)
        self._reader = source.reader()
        self._heir: Session | None = None

    def close(self) -> None:
        """Give up a session that was begun for a version that is not going to be copied."""
        if self._heir is not None:
            self._heir.give_up()

    def copy(self, manifest: Manifest, following: Manifest | None) -> CopiedVersion:
        """Copy a version; `following` is the one that will be copied next.

        One that seems hurt is looked at again by a fresh index: a collector may have moved its chunks.
        """
        base, problem = self._choose_base(manifest), ""
        while True:
            try:
                return self._attempt(manifest, base, following)
            except LostDelta:
                base = None
                continue
            except HurtVersion as error:
                if problem:
                    return _not_copied(manifest, CopyOutcome.DAMAGED, error.message)
                problem = error.message
            try:
                self._source.manifest(manifest.version)
            except NotFound:
                return _not_copied(manifest, CopyOutcome.FORGOTTEN)
            except Damaged as error:
                return _not_copied(manifest, CopyOutcome.DAMAGED, error.message)
            del self._reader  # so that there is never more than one index of the source in memory
            self._reader = self._source.reader()

    def _choose_base(self, manifest: Manifest) -> _Base | None:
        """The newest older version of the object that stands in the destination and shares a member that has not shrunk."""
        versions = self._objects[manifest.object]
        for older in reversed(versions[: versions.index(manifest)]):
            there = self._there.get(older.identity(self._source.id))
            if there is None or there.object != manifest.object:
                continue
            sizes = {member.name: member.size for member in manifest.members}
            copies = {member.name: member for member in there.members}
            members = {
                member.name: (member, copies[member.name])
                for member in older.members
                if member.name in copies and member.size == copies[member.name].size <= sizes.get(member.name, -1)
            }
            if members:
                return _Base(there, members)
        return None

    def _attempt(self, manifest: Manifest, base: _Base | None, following: Manifest | None) -> CopiedVersion:
        destination = self._destination
        begun = destination.clock.monotonic()
        with self._open_session(self._purpose(manifest, base)) as session:
            members = base.members if base and session.base is not None else {}
            stored = self._store(session, manifest, members)
            problem = self._copy_tags(manifest.version, session.version)

            def build() -> Manifest:
                return self._built(manifest, session, stored, destination.clock.monotonic() - begun)

            def follow(made: Manifest) -> Purpose | None:
                self._there[made.identity(destination.id)] = made
                return self._purpose(following, self._choose_base(following)) if following is not None else None

            made = session.commit(build, follow)
        self._heir = session.heir
        return CopiedVersion(
            bucket=made.object.bucket,
            object=made.object.name,
            version=manifest.version,
            copied_as=made.version,
            base=made.base,
            size=made.totals.size,
            data=made.totals.data,
            read=made.totals.read,
            stored=made.totals.stored,
            new_chunks=made.totals.new_chunks,
            seconds=destination.clock.monotonic() - begun,
            outcome=CopyOutcome.CREATED,
            problem=problem,
        )

    def _purpose(self, manifest: Manifest, base: _Base | None) -> Purpose:
        return Purpose(manifest.object, base.there.version if base else None, self._node)

    def _open_session(self, purpose: Purpose) -> AbstractContextManager[Session]:
        """The heir of the last one, where it was begun for this."""
        heir, self._heir = self._heir, None
        if heir is not None and heir.purpose == purpose:
            return open_heir(heir)
        if heir is not None:
            heir.give_up()
        return open_session(self._destination, purpose, self._effort)

    def _store(
        self, session: Session, manifest: Manifest, base: Mapping[str, tuple[Member, Member]]
    ) -> Sequence[Stored]:
        intakes = []
        for member in manifest.members:
            before, there = base.get(member.name, (None, None))
            intakes.append(Intake(MemberContent(self._reader, manifest, member, before), there))
        try:
            return store_contents(self._destination, session, intakes, self._effort, self._progress)
        except HurtVersion:
            raise
        except Damaged as error:  # of the two repositories it is the other one
            raise Damaged(
                f"something is damaged in {self._destination.url}: {error.message}",
                hint="run `rokctl repo check` there",
            ) from error

    def _copy_tags(self, version: str, copy: str) -> str:
        """Give the copy its tags and pin, before it exists: no rule may see it without. What is wrong with them, or ``."""
        problem = ""
        try:
            tags = tags_of(self._source, version)
        except Damaged as error:
            tags, problem = Tags(pinned=True), f"{error.message}: the copy is pinned in their place"
        if tags != Tags():
            blob = seal_tags(copy, tags, self._destination.keyring, self._destination.entropy)
            with suppress(BlobExists):  # the name is ours alone: an answer was lost
                self._destination.store.create(f"tags/{copy}", blob)
        return problem

    def _built(self, manifest: Manifest, session: Session, stored: Sequence[Stored], seconds: float) -> Manifest:
        members = tuple(
            replace(member, root=one.root, data=one.data, chunks=one.chunks)
            for member, one in zip(manifest.members, stored, strict=True)
        )
        return replace(
            manifest,
            version=session.version,
            tool=self._tool,
            base=session.base.version if session.base is not None else None,
            members=members,
            totals=Totals(
                size=sum(member.size for member in members),
                data=sum(member.data for member in members),
                read=sum(one.read for one in stored),
                stored=session.stored,
                chunks=sum(member.chunks for member in members),
                new_chunks=sum(one.new_chunks for one in stored),
                seconds=seconds,
            ),
            copied_from=manifest.identity(self._source.id),
        )


def _unchanged(manifest: Manifest, there: Manifest) -> CopiedVersion:
    return replace(_not_copied(manifest, CopyOutcome.ALREADY_THERE), copied_as=there.version, base=there.base)


def _not_copied(manifest: Manifest, outcome: CopyOutcome, problem: str = "") -> CopiedVersion:
    return CopiedVersion(
        bucket=manifest.object.bucket,
        object=manifest.object.name,
        version=manifest.version,
        copied_as=None,
        base=None,
        size=manifest.totals.size,
        data=manifest.totals.data,
        read=0,
        stored=0,
        new_chunks=0,
        seconds=0.0,
        outcome=outcome,
        problem=problem,
    )
