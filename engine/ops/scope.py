"""Which objects a command is about."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from engine.errors import NotFound
from engine.repo.naming import ObjectName
from engine.values import dataclass

if TYPE_CHECKING:  # objects are named before a repository is opened, and with it all that is heavy
    from engine.repo.repository import Survey


@dataclass(frozen=True, slots=True)
class Scope:
    """The objects that a command is about: one, or without a name all of a bucket, or without a bucket all there are."""

    bucket: str | None = None
    name: str | None = None

    def covers(self, candidate: ObjectName) -> bool:
        """Is the object one of them?"""
        return self.bucket in (None, candidate.bucket) and self.name in (None, candidate.name)

    def __str__(self) -> str:
        return "/".join(part for part in (self.bucket, self.name) if part)


def refuse_empty_scopes(scopes: Iterable[Scope], survey: "Survey", url: str) -> None:
    """Raise NotFound, with near names, for a scope that covers nothing; that of all objects may."""
    from engine.repo.repository import near

    objects = {manifest.object for manifest in survey.manifests}
    for scope in scopes:
        if scope != Scope() and not any(map(scope.covers, objects)):
            kind, names = ("object", set(map(str, objects))) if scope.name else ("bucket", {o.bucket for o in objects})
            raise NotFound(f"there is no {kind} {scope} in {url}", hint=near(str(scope), names))
