"""Check a repository: is everything there that its versions need, and is it what was written?

Findings name the blob, what is wrong with it, and which versions are hurt, down to the extents of their volumes. What is left
over from pushes and collections that died is noted, and is no damage.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from enum import Enum
from typing import Final

from engine.errors import Damaged, Refused
from engine.progress import Progress
from engine.repo.condemnation import GC_PREFIX, S0_PREFIX, given_up, open_awaited
from engine.repo.diagnosis import Contents, Diagnosis, Hurt, depths, diagnose, portion_to_read, time_now
from engine.repo.document import DOCUMENT_LIMIT
from engine.repo.examine import Depth, Fault, Problem
from engine.repo.hurt import HURT_PREFIX, hurt_versions, losses_of
from engine.repo.keyblob import KEYS_PREFIX, parse_key
from engine.repo.manifest import Manifest
from engine.repo.pack import PackName
from engine.repo.repository import Repository, Survey
from engine.repo.sample import Sample
from engine.repo.session import LEASE_SECONDS, open_record, session_of
from engine.repo.tags import all_tags
from engine.store.base import Blob, NoSuchBlob
from engine.values import dataclass

DEFAULT_WORKERS: Final = min(os.cpu_count() or 1, 4)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with the blob of that key, by a word for scripts and a sentence for people; and what it costs."""

    blob: str
    code: Fault
    problem: str
    hurt: tuple[Hurt, ...]


class Leftover(Enum):
    """What dead or unfinished work leaves behind."""

    SESSION = "open session"
    RECORD = "record of an ended session"
    CONDEMNED = "condemned pack"
    ORPHAN = "orphan pack"
    MARK = "outdated mark"


@dataclass(frozen=True, slots=True)
class Note:
    """One thing left over. It does no harm; `remark` says what becomes of it."""

    blob: str
    leftover: Leftover
    remark: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was looked at (counts, and bytes read from packs), and what was found.

    `part` is the part of the packs that was read: as 7/23, 1/1 for all, None for none.
    """

    versions: int
    packs: int
    chunks: int
    packs_read: int
    bytes_read: int
    part: str | None
    findings: tuple[Finding, ...]
    notes: tuple[Note, ...]


def check(
    repository: Repository, *, read_data: Sample | bool, progress: Progress, workers: int = DEFAULT_WORKERS
) -> CheckReport:
    """Look at every version, its tags, every map, pack and segment; with `read_data` at every byte of a sample of the packs
    too, or of all.

    Nothing is written. Memory: the tables of the node's cache, which are mapped (24 bytes for each chunk); with `read_data`, a
    pack for each worker.
    With 0 workers the calling thread does it all.
    """
    survey = repository.survey()
    problems = damaged_blobs(repository, survey)
    portion = portion_to_read(repository, read_data)
    diagnosis = diagnose(repository, survey.manifests, depths(portion, Depth.FACTS), progress, workers)
    problems.update(diagnosis.examined.problems)
    problems.update(_check_contents(diagnosis))
    return CheckReport(
        versions=len(survey.manifests),
        packs=len(diagnosis.contents.sizes),
        chunks=diagnosis.contents.index.distinct,
        packs_read=len(diagnosis.examined.read),
        bytes_read=diagnosis.examined.bytes_read,
        part=None if portion is None else str(portion),
        findings=tuple(findings_of(diagnosis, problems)),
        notes=tuple(_leftovers(repository, diagnosis)),
    )


def damaged_blobs(repository: Repository, survey: Survey) -> dict[str, Problem]:
    """What is wrong with the blobs that are neither packs nor about packs."""
    hint = "`rokctl version forget --damaged` lets it go"
    problems = {
        f"versions/{version}": Problem(Fault.MANIFEST, f"{error.message}; {hint}")
        for version, error in survey.damaged.items()
    }
    for found in (
        _check_tags(repository, survey.manifests),
        _check_keys(repository),
        _check_sessions(repository),
        _check_awaited(repository),
        _check_marks(repository),
    ):
        problems.update(found)
    return problems


def findings_of(diagnosis: Diagnosis, problems: dict[str, Problem]) -> Iterator[Finding]:
    """What is wrong, blob by blob."""
    given = {pack.key for pack in given_up(diagnosis.contents.condemned)}
    for blob in sorted({*problems, *diagnosis.losses}):
        problem = problems.get(blob)
        if problem is None and blob in diagnosis.unattributed:
            count = diagnosis.unattributed[blob]
            problem = Problem(Fault.CHUNK, f"{count} of the chunks and maps that it needs are in no pack")
        elif problem is None and blob in given:
            problem = Problem(Fault.PACK, "it was given up as damaged, and versions need what could not be read in it")
        elif problem is None:
            problem = Problem(Fault.PACK, "it is gone, and versions need it")
        yield Finding(blob, problem.fault, problem.text, tuple(diagnosis.losses.get(blob, ())))


def _check_tags(repository: Repository, manifests: Iterable[Manifest]) -> Iterator[tuple[str, Problem]]:
    for version, tags in all_tags(repository, (manifest.version for manifest in manifests)).items():
        if isinstance(tags, Damaged):
            yield f"tags/{version}", Problem(Fault.TAGS, f"{tags.message}; {tags.hint}")


def _check_keys(repository: Repository) -> Iterator[tuple[str, Problem]]:
    def read(blob: Blob) -> None:
        name = blob.key.removeprefix(KEYS_PREFIX)
        with suppress(Refused):  # of a newer program, which can read it
            parse_key(name, repository.store.get(blob.key)).label(repository.keyring)

    yield from _unreadable(repository, KEYS_PREFIX, Fault.KEY, read)


def _check_sessions(repository: Repository) -> Iterator[tuple[str, Problem]]:
    def read(blob: Blob) -> None:
        if session_of(blob.key) is not None:
            open_record(blob.key.removeprefix("pending/"), repository.store.get(blob.key), repository.keyring)

    yield from _unreadable(repository, "pending/", Fault.SESSION, read)


def _check_awaited(repository: Repository) -> Iterator[tuple[str, Problem]]:
    def read(blob: Blob) -> None:
        open_awaited(blob.key.removeprefix(S0_PREFIX), repository.store.get(blob.key), repository.keyring)

    yield from _unreadable(repository, S0_PREFIX, Fault.CONDEMNATION, read)


def _check_marks(repository: Repository) -> Iterator[tuple[str, Problem]]:
    def read(blob: Blob) -> None:
        losses_of(repository, blob.key.removeprefix(HURT_PREFIX))

    yield from _unreadable(repository, HURT_PREFIX, Fault.MARK, read)


def _unreadable(
    repository: Repository, prefix: str, fault: Fault, read: Callable[[Blob], None]
) -> Iterator[tuple[str, Problem]]:
    def problem_of(blob: Blob) -> Problem | None:
        if blob.size > DOCUMENT_LIMIT:
            return Problem(fault, f"it has {blob.size} bytes, more than any can have")
        try:
            read(blob)
        except NoSuchBlob:
            return None  # removed since it was listed
        except Damaged as error:
            return Problem(fault, "; ".join(filter(None, (error.message, error.hint))))
        return None

    blobs = list(repository.store.list(prefix))
    for blob, problem in zip(blobs, repository.concurrently(problem_of, blobs), strict=True):
        if problem is not None:
            yield blob.key, problem


def _check_contents(diagnosis: Diagnosis) -> Iterator[tuple[str, Problem]]:
    contents = diagnosis.contents
    for name in contents.stated.damaged:
        yield (
            f"index/{name}",
            Problem(Fault.SEGMENT, "the segment is damaged; `rokctl repo repair` makes it anew from the packs"),
        )
    for name, packs in contents.false_statements(diagnosis.examined).items():
        listed = ", ".join(map(str, packs[:3])) + (f" and {len(packs) - 3} more" if len(packs) > 3 else "")
        text = f"it states of {listed} what their own directories do not; `rokctl repo repair --from-packs` corrects it"
        yield f"index/{name}", Problem(Fault.FACTS, text)
    for name, error in contents.unreadable_condemnations.items():
        yield (
            f"{GC_PREFIX}{name}",
            Problem(Fault.CONDEMNATION, f"{error.message}; until it is mended nothing can be pushed"),
        )


def _leftovers(repository: Repository, diagnosis: Diagnosis) -> Iterator[Note]:
    contents = diagnosis.contents
    versions = {blob.key.removeprefix("versions/") for blob in repository.store.list("versions/")}
    newest: dict[str, Blob] = {}
    for blob in repository.store.list("pending/"):
        session = session_of(blob.key)
        if session in versions:
            yield Note(blob.key, Leftover.RECORD, "a collection removes it")
        elif session is not None:
            newest[session] = max(newest.get(session, blob), blob, key=lambda one: one.modified)
    silent = time_now(repository) - timedelta(seconds=LEASE_SECONDS)
    for session, blob in sorted(newest.items()):
        if blob.modified < silent:
            yield Note(f"pending/{session}", Leftover.SESSION, "nobody ended it; a collection gives it up for dead")
    for pack in sorted({pack for record in contents.condemned for pack in record.packs}):
        if pack in contents.sizes:
            yield Note(pack.key, Leftover.CONDEMNED, "a collection removes it")
    for pack in sorted(_orphans(repository, contents) - given_up(contents.condemned)):
        if pack.owner not in newest:
            yield Note(pack.key, Leftover.ORPHAN, "no segment states it; its own directory is read each time")
    hurt = {hurt.version for hurt in diagnosis.hurt}
    for version in sorted(hurt_versions(repository) - hurt):
        yield Note(f"{HURT_PREFIX}{version}", Leftover.MARK, "the version lacks nothing; `rokctl repo repair` lifts it")


def _orphans(repository: Repository, contents: Contents) -> set[PackName]:
    """Packs that no segment states; looked at twice where there are any, since segments are joined meanwhile."""
    orphans = contents.sizes.keys() - contents.stated.packs
    return orphans - repository.catalog.stated().packs if orphans else set()
