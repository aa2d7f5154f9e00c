"""Versions: what one step makes of one name; and which of them may be parts of one object."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from kalec.analysis.definitions import Definition


class Kind(Enum):
    """How a version comes to a step that needs it."""

    PARAMETER = "a pipeline parameter"
    SHARED = "made by the imports and functions cells, in each step anew"
    VALUE = "saved by a step"
    DEFINITION = "source, executed again"
    DELETED = "a name that is gone"


@dataclass(eq=False, repr=False, slots=True)
class Version:
    """A name as one step leaves it; `step` is "" for parameters and shared code."""

    name: str
    step: str
    kind: Kind
    rank: int  # where it was made, in the order of all cells
    sure: bool = True  # the step binds or changes it for certain
    bound: bool = True  # the step gives the name a value, rather than changing the one it has
    optional: bool = False  # the name may be unbound
    doubtful: bool = False  # it may, and not only because a loop might run zero times
    passes_through: bool = False  # may be what the step itself took in
    definitions: frozenset[Definition] = frozenset()  # that its value is, holds or uses
    sources: tuple[Definition, ...] = ()  # of a DEFINITION: the statements that make it
    modules: frozenset[str] = frozenset()  # that its value may be of
    called_with: frozenset[str] = frozenset()  # names that lambdas in its value use when they are called
    same_as: "Version | None" = None
    holders: "list[Version]" = field(default_factory=list)  # a change of this one is a change of them


def representative(version: Version) -> Version:
    """The one version that stands for all that may share objects with this one."""
    while version.same_as is not None:
        if version.same_as.same_as is not None:
            version.same_as = version.same_as.same_as
        version = version.same_as
    return version


def share(part: Version, holder: Version, *, both_ways: bool) -> None:
    """`holder` may hold `part`; `both_ways`: or the other way round, or they may be one object."""
    if part is holder:
        return
    part.holders.append(holder)
    if both_ways:
        holder.holders.append(part)
    one, other = representative(part), representative(holder)
    if one is not other:
        one.same_as = other


def with_holders(versions: Iterable[Version]) -> set[Version]:
    """These versions, and all that hold them."""
    found: set[Version] = set()
    waiting = list(versions)
    while waiting:
        version = waiting.pop()
        if version not in found:
            found.add(version)
            waiting += version.holders
    return found
