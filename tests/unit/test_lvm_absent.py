"""Where there is no device-mapper, there are no LVM pools, and nobody complains."""

import pytest

from engine.device import dm
from engine.device.lvm import find_pools
from engine.errors import Failed

pytestmark = pytest.mark.skipif(dm.is_available(), reason="this machine has device-mapper")


def test_no_pools_are_found_and_no_error_is_raised() -> None:
    assert find_pools() == []


def test_whoever_needs_device_mapper_is_told_how_to_get_it() -> None:
    with pytest.raises(Failed, match="/dev/mapper/control") as caught, dm.control():
        pass
    assert caught.value.hint
