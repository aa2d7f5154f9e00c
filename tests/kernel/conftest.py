"""The tests of this folder need root and a kernel with device-mapper: `scripts/test-kernel` gives them one of their own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from lvm_fixture import DISK, lvm_pool, make_group

from engine.device.lvm import LvmPool


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Never on a machine that merely has device-mapper: the tests make volume groups and fill disks.
    own_kernel = os.environ.get("ROKCTL_TEST_KERNEL") == "uml" and Path(DISK).exists()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.kernel)
            if not own_kernel:
                item.add_marker(pytest.mark.skip(reason="run it by scripts/test-kernel"))


@pytest.fixture(autouse=True)
def _group() -> None:
    make_group()


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[LvmPool]:
    with lvm_pool(tmp_path) as opened:
        assert isinstance(opened, LvmPool)
        yield opened
