"""Where everything is put together: the environment, the clock, randomness, the pools, the repository.

Nothing below `rokctl` looks these up for itself. What is heavy (numpy, cryptography, boto3) is imported here inside the
functions that need it, because most commands do not, and the start-up is part of the product.
"""

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.clock import Clock, StoppableClock
from engine.errors import Refused
from engine.values import dataclass
from rokctl import VERSION
from rokctl.render import Output

if TYPE_CHECKING:
    from engine.config import Config, RepositoryConfig
    from engine.device.base import Pool, Snapshot
    from engine.device.pools import Pools
    from engine.progress import Progress
    from engine.rate import RateLimit
    from engine.repo.keyblob import Secret
    from engine.repo.paper import PaperKey
    from engine.repo.repository import Repository
    from engine.store.base import Store
    from rokctl.names import SnapshotName
    from rokctl.secret import Role


@dataclass(frozen=True, slots=True)
class Flags:
    """The options that stand anywhere on the command line."""

    repo: str | None = None
    password_file: Path | None = None
    key_file: Path | None = None
    config: Path | None = None
    json: bool = False
    quiet: bool = False
    no_wait: bool = False

    def over(self, outer: "Flags") -> "Flags":
        """What was given after a word of the command wins over what was given before it."""
        return Flags(**{entry.name: getattr(self, entry.name) or getattr(outer, entry.name) for entry in fields(Flags)})


@dataclass(frozen=True, slots=True)
class World:
    """What the program finds around it."""

    environment: Mapping[str, str]
    clock: Clock
    entropy: Callable[[int], bytes]
    is_root: bool
    stop: Callable[[], None]  # lets no thread sleep any more: the program is to end


class Session:
    """One run of one command: its flags, and what it needs, made when it is first asked for."""

    def __init__(self, world: World, flags: Flags) -> None:
        self.world = world
        self.flags = flags
        self.output = Output(as_json=flags.json, quiet=flags.quiet)

    @cached_property
    def config(self) -> "Config":
        """The files, the environment, and the flags over them."""
        from engine.config import override, read_config

        flags = self.flags
        if flags.password_file is not None and flags.key_file is not None:
            raise Refused(
                "both --password-file and --key-file were given", hint="give the one that opens the repository"
            )
        given = settings(
            **{
                "repository.url": flags.repo,
                "repository.password_file": flags.password_file,
                "repository.key_file": flags.key_file,
            }
        )
        return override(read_config(self.world.environment, flags.config), given)

    @property
    def node(self) -> str:
        """What versions name as their origin."""
        return self.config.node or os.uname().nodename

    @property
    def tool(self) -> str:
        """What versions name as their maker."""
        return f"rokctl {VERSION}"

    @property
    def state_directory(self) -> Path:
        """Locks, caches and the list of directory pools; nothing that could not be had again."""
        return self.config.state_directory or default_state_directory(self.world)

    @cached_property
    def pools(self) -> "Pools":
        """The pools of this node."""
        from engine.device.pools import Pools

        return Pools(self.state_directory, self.world.clock, self.world.entropy, finders=(_lvm_pools,))

    def snapshot(self, name: "SnapshotName") -> "tuple[Pool, Snapshot]":
        """A snapshot and the pool that holds it. Raises NotFound."""
        pool = self.pools.open(name.pool)
        return pool, pool.snapshot(name.volume, name.snapshot)

    @property
    def is_near(self) -> bool:
        """Whether the configured repository is in a directory, so that no request waits for a network."""
        from engine.store.url import DirectoryLocation, parse_url

        url = self.config.repository.url
        return url is not None and isinstance(parse_url(url), DirectoryLocation)

    @contextmanager
    def store(self, *, create: bool = False, limit_upload: int | None = None) -> "Iterator[Store]":
        """The store of the configured repository, patient and held to the rates, until the end of the `with`."""
        url = self.config.repository.url
        if url is None:
            raise Refused("no repository was named", hint="give --repo URL, or set ROKCTL_REPOSITORY or repository.url")
        with self._store_at(url, create=create, limit_upload=limit_upload) as store:
            yield store

    @contextmanager
    def _store_at(self, url: str, *, create: bool = False, limit_upload: int | None = None) -> "Iterator[Store]":
        from engine.store.retry import FIRST_CONTACT, Retrying
        from engine.store.url import open_store

        clock, upload = self.world.clock, self._limit(limit_upload or self.config.limits.upload)
        store: Store = open_store(url, environment=self.world.environment, clock=clock, create=create)
        try:
            if upload is not None:
                from engine.store.throttle import Throttled

                store = Throttled(store, upload=upload, download=None)
            yield Retrying(store, clock, self.world.entropy, first_contact=FIRST_CONTACT)
        finally:
            store.close()

    @contextmanager
    def repository(
        self, *, uses: str = "engine.repo.repository", limit_upload: int | None = None, paper: Path | None = None
    ) -> "Iterator[Repository]":
        """The configured repository, open until the end of the `with`; by the paper copy in a file, if one is named.

        `uses` is the module that works with it: it is loaded while the key is derived, so it is imported in the `with`.
        """
        from rokctl.secret import REPOSITORY

        with self.store(limit_upload=limit_upload) as store:
            yield self._open(store, self.config.repository, REPOSITORY, uses, paper)

    @contextmanager
    def destination(self, given: "RepositoryConfig", *, limit_upload: int | None = None) -> "Iterator[Repository]":
        """The repository that another one is copied to, open until the end of the `with`."""
        from rokctl.secret import DESTINATION

        if given.url is None:
            raise Refused("no repository to copy to was named", hint="give --to URL, or set ROKCTL_TO_REPOSITORY")
        with self._store_at(given.url, limit_upload=limit_upload) as store:
            yield self._open(store, given, DESTINATION, "engine.ops.copy")

    def _open(
        self, store: "Store", given: "RepositoryConfig", role: "Role", uses: str, paper: Path | None = None
    ) -> "Repository":
        # A third of the time goes into a key that is derived from a passphrase, by another core if there is one. What derives
        # it is loaded first, and alone: two threads that load wait for each other at each step.
        from engine.hand import beside
        from engine.repo.unlock import unlock
        from rokctl.secret import read_paper, read_secret, secret_at_hand

        at_hand = None if paper else secret_at_hand(given)

        def ask() -> "Secret | PaperKey":
            if paper:
                return read_paper(paper)
            return at_hand or read_secret(given, self.world.environment, role=role)

        if not (paper or (at_hand and at_hand.is_random)):
            from engine.repo.derivation import load_stretching

            load_stretching()
        needed = ("engine.repo.aesgcm", "engine.repo.repository", uses)
        loaded = beside(lambda: [importlib.import_module(name) for name in needed])
        unlocked = unlock(store, ask, at_hand.key_name if at_hand else None)
        loaded()
        from engine.repo.repository import work_with

        return work_with(
            store, unlocked, clock=self.world.clock, entropy=self.world.entropy, caches=self.state_directory / "cache"
        )

    def first_secret(self) -> "Secret":
        """The secret of a repository to be made; a person types a passphrase twice."""
        from rokctl.secret import read_secret

        return read_secret(self.config.repository, self.world.environment, confirm=True)

    def read_limit(self, limit: int | None) -> "RateLimit | None":
        """The rate at which volumes may be read: the option, else the configuration."""
        return self._limit(limit or self.config.limits.read)

    def _limit(self, bytes_per_second: int | None) -> "RateLimit | None":
        if bytes_per_second is None:
            return None
        from engine.rate import RateLimit

        return RateLimit(bytes_per_second, self.world.clock)

    @contextmanager
    def progress(self) -> "Iterator[Progress]":
        """Someone who watches, if anyone does."""
        from rokctl.progressbar import progress_bar

        with progress_bar(wanted=not (self.flags.quiet or self.flags.json)) as progress:
            yield progress


def default_state_directory(world: World) -> Path:
    """/var/lib/rokctl for root; for others a folder of their own, by the XDG rules; or what the environment names."""
    if named := world.environment.get("ROKCTL_STATE_DIR"):
        return Path(named).absolute()
    if world.is_root:
        return Path("/var/lib/rokctl")
    if home := world.environment.get("XDG_STATE_HOME"):
        return Path(home) / "rokctl"
    return Path(world.environment.get("HOME", "/")) / ".local" / "state" / "rokctl"


def this_world(environment: Mapping[str, str]) -> World:
    """The machine as it is."""
    clock = StoppableClock()
    return World(environment, clock, os.urandom, os.geteuid() == 0, clock.stop)


def _lvm_pools() -> "Sequence[Pool]":
    """Those that LVM knows; asked only where no directory pool will do."""
    from engine.device.lvm import find_pools

    return find_pools()


def settings(**values: Any) -> dict[str, Any]:
    """The values that are set, for a call whose other arguments keep their defaults."""
    return {name: value for name, value in values.items() if value is not None}
