"""What all tests share: real servers, one of each per test process, started when first asked for."""

import functools
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from engine.repo import keyblob
from tests.node import new_seed
from tests.servers import Server, ServerMissing, make_bucket, start_seaweedfs

# On a busy machine anything may take long: that is no finding.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
settings.register_profile("quick", settings(), max_examples=10)  # scripts/test --quick


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what takes long first: the workers then end at much the same time."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session", autouse=True)
def _each_key_is_derived_once() -> Iterator[None]:
    """A derivation takes a tenth of a second on purpose, and gives the same each time: nobody waits for one twice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyblob, "_derive", functools.cache(keyblob._derive))
        yield


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for large files, gone when the test is over; pytest would keep those of the last three runs."""
    with tempfile.TemporaryDirectory(prefix="rokctl-test-") as folder:
        yield Path(folder)


@pytest.fixture
def rnd() -> random.Random:
    """Randomness whose seed is printed."""
    return new_seed()


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running SeaweedFS. Tests that ask for it are marked `s3`, and skipped where it is missing, but not in CI."""
    try:
        server = start_seaweedfs(tmp_path_factory.mktemp("seaweedfs"))
    except ServerMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def s3_bucket(seaweedfs: Server) -> str:
    """The name of a bucket of that server. Whoever uses it keeps to a prefix of its own."""
    make_bucket(seaweedfs, "tests")
    return "tests"


@pytest.fixture
def s3_place(seaweedfs: Server, s3_bucket: str) -> str:
    """The URL of an empty place in that bucket."""
    return f"s3://{s3_bucket}/{os.urandom(8).hex()}?endpoint={seaweedfs.endpoint}"


@pytest.fixture
def s3_environment(seaweedfs: Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment in which boto3 is that server's user, and no other."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in seaweedfs.environment.items():
        monkeypatch.setenv(name, value)
    return seaweedfs.environment
