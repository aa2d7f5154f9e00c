"""The pools of this node, by name.

Directory pools are found through symlinks `pools/NAME` in the state directory; other kinds through finders, which ask the
kernel. The links are for convenience: a pool whose link is lost is registered again by `create_directory`.

What directory pools are made of is imported where there is one: half of what a command on an LVM pool would import.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from engine.clock import Clock
from engine.device.base import Made, Outcome, Pool
from engine.device.naming import check_name
from engine.device.rules import not_found
from engine.errors import NotFound, Refused

Finder = Callable[[], Sequence[Pool]]


class Pools:
    """See the module. `finders` list the pools of other kinds; they are asked only when no directory pool will do."""

    def __init__(
        self, state_directory: Path, clock: Clock, entropy: Callable[[int], bytes], finders: Sequence[Finder] = ()
    ) -> None:
        self._links = state_directory / "pools"
        self._clock = clock
        self._entropy = entropy
        self._finders = tuple(finders)

    def names(self) -> list[str]:
        """All names, sorted; also those of directory pools whose filesystem is not mounted now."""
        return sorted({*self._registered(), *(pool.name for pool in self._found())})

    def all(self) -> list[Pool]:
        """All pools that can be opened now, sorted by name."""
        pools = {pool.name: pool for pool in self._found()}
        for name in self._registered():
            if self._is_there(name):
                pools[name] = self._open_directory(name)
        return [pools[name] for name in sorted(pools)]

    def open(self, name: str) -> Pool:
        """One pool. Raises NotFound, naming near names, or saying where a directory pool was."""
        if name in self._registered():
            return self._open_directory(name)
        for pool in self._found():
            if pool.name == name:
                return pool
        raise not_found("pool", name, self.names())

    def create_directory(self, name: str, path: Path) -> Made[Pool]:
        """Make a directory, which is made too if it is missing, a pool; one that is that pool already is registered.

        Raises Refused when the directory holds another pool, or anything else, or when another pool has the name.
        """
        from engine.device.directory import create_directory_pool

        check_name("pool", name)
        self._check_free(name, path.absolute())
        made = create_directory_pool(path, name, self._clock, self._entropy, registration=self._links / name)
        self._register(name, path.resolve())
        return made

    def remove(self, name: str) -> Outcome:
        """Remove a pool as `Pool.remove` does. One that is not there any more is only forgotten."""
        if name in self._registered() and not self._is_there(name):
            (self._links / name).unlink(missing_ok=True)
            return Outcome.ALREADY_GONE
        if name not in self.names():
            return Outcome.ALREADY_GONE
        return self.open(name).remove()

    def _registered(self) -> list[str]:
        if not self._links.is_dir():
            return []
        return sorted(link.name for link in self._links.iterdir() if link.is_symlink() and link.name[0] != ".")

    def _found(self) -> list[Pool]:
        return [pool for finder in self._finders for pool in finder()]

    def _is_there(self, name: str) -> bool:
        from engine.device import records
        from engine.device.folder import MARKER

        record = records.read_pool(self._links / name / MARKER)
        return record is not None and record.name == name

    def _open_directory(self, name: str) -> Pool:
        from engine.device.directory import DirectoryPool

        link = self._links / name
        if not self._is_there(name):
            hint = f"mount its filesystem, or forget the pool with `rokctl pool remove {name}`"
            raise NotFound(f"pool {name} was at {link.readlink()}, and is not there now", hint=hint)
        return DirectoryPool(link, self._clock, self._entropy, registration=link)

    def _check_free(self, name: str, path: Path) -> None:
        """Raises Refused when another pool has the name."""
        link = self._links / name
        if name in self._registered() and self._is_there(name) and link.resolve() != path.resolve():
            raise Refused(f"pool {name} exists already, at {link.readlink()}", hint="choose another name")
        for pool in self._found():
            if pool.name == name:
                raise Refused(f"pool {name} exists already, at {pool.status().location}", hint="choose another name")

    def _register(self, name: str, path: Path) -> None:
        from engine.device.blockio import translated

        link, unfinished = self._links / name, self._links / f".{name}.new"
        try:
            self._links.mkdir(parents=True, exist_ok=True)
            unfinished.unlink(missing_ok=True)
            unfinished.symlink_to(path, target_is_directory=True)
            unfinished.rename(link)
        except OSError as error:
            raise translated(error, str(link), "registering the pool") from error
