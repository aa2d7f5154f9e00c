"""What is mounted, as the kernel's table tells it."""

from engine.device.mounts import mount_point, parse_mounts

TABLE = """\
22 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw
36 35 98:0 /sub /mnt/a\\040b\\134c rw,noatime master:1 - ext4 /dev/root rw,errors=continue
a line of another form

41 28 253:7 / /home rw - xfs /dev/mapper/vg-home rw
"""


def test_each_device_has_its_mount_point_with_its_spaces_and_backslashes() -> None:
    assert parse_mounts(TABLE) == {"0:21": "/proc", "98:0": "/mnt/a b\\c", "253:7": "/home"}


def test_a_device_that_is_not_there_or_not_mounted_has_none() -> None:
    assert mount_point("/dev/nothing-of-that-name") is None
    assert mount_point("/dev/null") is None
