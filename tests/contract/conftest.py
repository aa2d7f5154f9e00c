"""Every kind of store, for the one suite that all must pass."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.clock import SystemClock
from engine.rate import RateLimit
from engine.store.base import Store
from engine.store.directory import DirectoryStore
from engine.store.memory import MemoryStore
from engine.store.retry import Retrying
from engine.store.throttle import Throttled
from engine.units import GIB
from tests.servers import Server

KINDS = ["memory", "directory", "retrying", "throttled", pytest.param("s3", marks=pytest.mark.s3)]

_prefixes = itertools.count()


@pytest.fixture(params=KINDS)
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Opens a store on a place that was empty before the test: the same place each time, as another node would."""
    clock = SystemClock()
    match request.param:
        case "directory":
            return lambda: DirectoryStore(tmp_path / "store", create=True)
        case "s3":
            return request.getfixturevalue("open_s3_store")
        case kind:
            memory = MemoryStore(clock)
            stores = {
                "memory": memory,
                "retrying": Retrying(memory, clock, os.urandom),
                "throttled": Throttled(memory, RateLimit(100 * GIB, clock), RateLimit(100 * GIB, clock)),
            }
            return lambda: stores[kind]


@pytest.fixture
def open_s3_store(seaweedfs: Server, s3_bucket: str, s3_environment: dict[str, str]) -> Callable[[], Store]:
    """A prefix of its own, read five keys at a time, so that listings have pages."""
    from engine.store.s3 import open_s3

    prefix = f"contract/{next(_prefixes)}"
    return lambda: open_s3(
        s3_bucket, prefix, url=f"s3://{s3_bucket}/{prefix}", endpoint=seaweedfs.endpoint, page_size=5
    )


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Iterator[Store]:
    """An empty store."""
    opened = open_store()
    yield opened
    opened.close()


@pytest.fixture
def other(open_store: Callable[[], Store]) -> Iterator[Store]:
    """The same store as another node has it open."""
    opened = open_store()
    yield opened
    opened.close()
