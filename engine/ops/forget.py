"""Forget versions: a plan first, by rules or by names, which touches nothing and refuses what is wrong; then its execution.

Rules look at each object on its own, so no grouping can be wrong. The space of what is forgotten comes back by collection.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from enum import Enum

from engine.errors import Damaged, NotFound, Refused
from engine.ops.scope import Scope, refuse_empty_scopes
from engine.policy.retention import Candidate, Reason, Rule, Rules, decide
from engine.repo.manifest import Manifest
from engine.repo.naming import ObjectName, VersionReference
from engine.repo.repository import Repository, Survey, near
from engine.repo.tags import Tags, all_tags, tags_of
from engine.values import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to become of one version: it is forgotten when nothing speaks for it. `tags` None: they cannot be read."""

    manifest: Manifest
    tags: Tags | None
    reasons: tuple[Reason, ...]

    @property
    def keep(self) -> bool:
        """Does it stay?"""
        return bool(self.reasons)


@dataclass(frozen=True, slots=True)
class ForgetPlan:
    """Verdicts by object, and of each oldest first; versions that were named and had been forgotten before; and the ids of
    versions whose manifest cannot be read, so that no rule can tell whose they are: they are left alone.
    """

    verdicts: tuple[Verdict, ...]
    already_gone: tuple[VersionReference, ...] = ()
    unreadable: tuple[str, ...] = ()


class Fate(Enum):
    """What became of a version."""

    KEPT = "kept"
    FORGOTTEN = "forgotten"
    ALREADY_GONE = "already gone"


@dataclass(frozen=True, slots=True)
class ForgetReport:
    """How many versions came to which end."""

    forgotten: int
    kept: int
    already_gone: int


def plan_by_rules(
    repository: Repository, scopes: Sequence[Scope], rules: Rules, zone: tzinfo, *, allow_last: bool
) -> ForgetPlan:
    """What the rules keep, of each object that a scope covers on its own.

    A version's time is when its push began, by the store's clock, whose `now` is asked too: the nodes' clocks decide
    nothing. A version whose tags cannot be read is kept as if it were pinned.
    Raises NotFound for a scope that covers nothing (but that of all objects), and Refused for a tag that no version has,
    and, without `allow_last`, for rules that keep nothing, be it of one object.
    """
    if rules.are_void and not allow_last:
        raise Refused("the rules keep nothing", hint="give one that does, or --allow-last to forget every version")
    survey = repository.survey()
    manifests = [m for m in survey.manifests if any(scope.covers(m.object) for scope in scopes)]
    refuse_empty_scopes(scopes, survey, repository.url)
    tags = all_tags(repository, (manifest.version for manifest in manifests))
    if manifests:
        _refuse_unknown_tags(rules, tags.values())
    now = repository.store.now()
    verdicts: list[Verdict] = []
    for name in sorted({manifest.object for manifest in manifests}):
        of_object = [manifest for manifest in manifests if manifest.object == name]
        verdicts += _judge(name, of_object, tags, rules, now, zone, allow_last=allow_last)
    return ForgetPlan(tuple(verdicts), unreadable=tuple(survey.damaged))


def _refuse_unknown_tags(rules: Rules, tags: Iterable[Tags | Damaged]) -> None:
    known = {name for entry in tags if isinstance(entry, Tags) for name in entry.names}
    for name in sorted(rules.tags - known):
        raise Refused(f"no version there has the tag {name!r}, so the rule keeps nothing", hint=near(name, known))


def _judge(
    name: ObjectName,
    manifests: Sequence[Manifest],
    tags: Mapping[str, Tags | Damaged],
    rules: Rules,
    now: datetime,
    zone: tzinfo,
    *,
    allow_last: bool,
) -> list[Verdict]:
    by_id = {manifest.version: manifest for manifest in manifests}
    candidates = [_candidate(manifest, tags[manifest.version]) for manifest in manifests]
    decisions = decide(candidates, rules, now, zone, allow_last=allow_last)
    dropped = sum(not decision.keep for decision in decisions)
    if dropped and not allow_last and not any(decision.is_chosen for decision in decisions):
        raise Refused(
            f"the rules keep nothing of {name}, which has {len(decisions)} versions",
            hint="add --keep-last 1 to keep its newest version alone, or say --allow-last",
        )
    return [Verdict(by_id[d.candidate.id], _readable(tags[d.candidate.id]), d.reasons) for d in decisions]


def _candidate(manifest: Manifest, tags: Tags | Damaged) -> Candidate:
    known = Tags(pinned=True) if isinstance(tags, Damaged) else tags
    return Candidate(manifest.version, manifest.store_time, known.names, known.pinned, known.pinned_until)


def _readable(tags: Tags | Damaged) -> Tags | None:
    return tags if isinstance(tags, Tags) else None


def plan_by_names(repository: Repository, references: Iterable[VersionReference], *, allow_last: bool) -> ForgetPlan:
    """The versions that are named, by their ids or a unique prefix of them.

    One that was forgotten before is `already gone`. Raises NotFound and Damaged, and Refused for one that is named as the
    latest (asked twice that would be two), for one that is pinned, and without `allow_last` for the newest of its object.
    """
    survey = repository.survey()
    named: dict[str, Manifest] = {}
    gone: list[VersionReference] = []
    for reference in references:
        found = _find(repository, reference, survey)
        if isinstance(found, Manifest):
            named[found.version] = found
        else:
            gone.append(found)
    newest = {manifest.object: manifest.version for manifest in survey.manifests}
    now = repository.store.now()
    verdicts = []
    for version, manifest in named.items():
        if newest[manifest.object] == version and not allow_last:
            raise Refused(f"{manifest.object}@{version} is the newest version of its object", hint="say --allow-last")
        tags = tags_of(repository, version)
        if _candidate(manifest, tags).is_pinned(now):
            hint = f"`rokctl version tag {manifest.object}@{version} --unpin` lets it go"
            raise Refused(f"{manifest.object}@{version} is pinned", hint=hint)
        verdicts.append(Verdict(manifest, tags, ()))
    return ForgetPlan(tuple(verdicts), tuple(gone))


def _find(repository: Repository, reference: VersionReference, survey: Survey) -> Manifest | VersionReference:
    """The version that is named, or what it is called in full when it was forgotten before."""
    if reference.version is None:
        raise Refused(f"{reference} is another version after each push", hint="name the version by its id")
    try:
        return repository.resolve(reference, survey)
    except NotFound:
        forgotten = [version for version in survey.forgotten if version.startswith(reference.version)]
        if len(forgotten) != 1:
            raise
        return VersionReference(reference.object, forgotten[0])


def forget_unreadable(repository: Repository, ids: Sequence[str], *, dry_run: bool) -> list[tuple[str, Fate]]:
    """Forget versions whose manifests cannot be read, by their whole ids; no name finds them, and no rule. Pins do not count.

    Raises Refused for one that can be read, NotFound for one that never was, and has then forgotten none.
    """
    survey = repository.survey()
    readable = {manifest.version: manifest for manifest in survey.manifests}
    for version in ids:
        if version in readable:
            hint = f"name it as {readable[version].object}@{version}"
            raise Refused(f"version {version} can be read, and is forgotten by its name", hint=hint)
        if version not in survey.damaged and version not in survey.forgotten:
            raise NotFound(f"there is no version {version} in {repository.url}", hint="see `rokctl repo check`")
    fates = []
    for version in ids:
        gone = version in survey.forgotten or (not dry_run and not repository.forget(version))
        fates.append((version, Fate.ALREADY_GONE if gone else Fate.FORGOTTEN))
    return fates


def forget(
    repository: Repository, plan: ForgetPlan, *, listen: Callable[[Verdict, Fate], object] = lambda *_: None
) -> ForgetReport:
    """Carry out a plan, telling `listen` of each of its verdicts when it is done; a plan that broke off can be made again.

    A version that was pinned after the plan was made is kept.
    """
    now = repository.store.now()
    count = dict.fromkeys(Fate, 0)
    for verdict in plan.verdicts:
        final, fate = _carry_out(repository, verdict, now)
        count[fate] += 1
        listen(final, fate)
    return ForgetReport(
        forgotten=count[Fate.FORGOTTEN],
        kept=count[Fate.KEPT],
        already_gone=count[Fate.ALREADY_GONE] + len(plan.already_gone),
    )


def _carry_out(repository: Repository, verdict: Verdict, now: datetime) -> tuple[Verdict, Fate]:
    if verdict.keep:
        return verdict, Fate.KEPT
    version = verdict.manifest.version
    tags = tags_of(repository, version)
    if _candidate(verdict.manifest, tags).is_pinned(now):
        return Verdict(verdict.manifest, tags, (Reason(Rule.PINNED),)), Fate.KEPT
    return verdict, Fate.FORGOTTEN if repository.forget(version) else Fate.ALREADY_GONE
