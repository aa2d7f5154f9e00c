"""What lies on a device, told in plain words. Files will do for devices."""

import subprocess
from pathlib import Path

import pytest

from engine.device.base import Filesystem
from engine.device.probe import probe, signatures
from engine.errors import Failed
from engine.units import MIB


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(16 * MIB)
    return path


def make(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, capture_output=True)


def write_partition_table(disk: Path) -> None:
    with disk.open("r+b") as file:
        file.seek(446)
        file.write(b"\0\0\2\0\x83\0\1\0" + (2048).to_bytes(4, "little") + (4096).to_bytes(4, "little"))
        file.seek(510)
        file.write(b"\x55\xaa")


def test_nothing_is_found_where_nothing_is(disk: Path) -> None:
    assert probe(str(disk)) is None
    assert signatures(str(disk)) == []


def test_a_filesystem_is_found_with_label_and_uuid(disk: Path) -> None:
    uuid = "0c4a9d0f-6b04-4b8f-8c2e-3a4f0c5d6e7f"
    make("mkfs.ext4", "-q", "-L", "my photos", "-U", uuid, disk)
    assert probe(str(disk)) == Filesystem("ext4", "my photos", uuid)
    assert signatures(str(disk)) == ["a filesystem (ext4) labelled 'my photos'"]


def test_what_is_no_filesystem_is_none_but_would_be_lost(disk: Path) -> None:
    make("mkswap", disk)
    assert probe(str(disk)) is None
    assert signatures(str(disk)) == ["swap space"]


def test_a_partition_table_would_be_lost(disk: Path) -> None:
    write_partition_table(disk)
    assert probe(str(disk)) is None
    assert signatures(str(disk)) == ["a partition table (MBR)"]


def test_what_cannot_be_read_is_not_called_empty(tmp_path: Path) -> None:
    for look in (probe, signatures):
        with pytest.raises(Failed, match="missing"):
            look(str(tmp_path / "missing"))
