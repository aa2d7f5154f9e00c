"""`scripts/bench s3`: what its proxy adds and counts, what it refuses, and that a run of it can be read by a program."""

import http.client
import http.server
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine.units import MIB

SCRIPTS = Path(__file__).parents[2] / "scripts"
LATENCY = 0.05


def bench(tmp_path, *words):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    return subprocess.run(
        [sys.executable, SCRIPTS / "bench", "s3", *words], env=environment, capture_output=True, text=True
    )


class Answering(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def port():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield server.server_address[1]
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.mark.slow
def test_the_proxy_delays_each_request_and_counts_them(port, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmark.latency import Account, far_away

    with far_away(port, LATENCY) as (far_port, account):
        for requests in (3, 1):
            connection = http.client.HTTPConnection("127.0.0.1", far_port)
            for number in range(requests):
                body = random.Random(number).randbytes(number * MIB)
                begun = time.monotonic()
                connection.request("PUT", "/", body)
                assert connection.getresponse().read() == body
                assert time.monotonic() - begun >= LATENCY
            connection.close()
    assert account == Account(connections=2, requests=4, most_at_once=1)


@pytest.mark.slow
def test_an_image_that_does_not_exist_and_a_latency_that_is_none_are_refused(tmp_path):
    assert (
        bench(tmp_path, tmp_path / "nothing").stderr
        == f"scripts/bench: {tmp_path / 'nothing'} is no file that exists\n"
    )
    ran = bench(tmp_path, "--latency=20s")
    assert (ran.returncode, "write it as 20ms" in ran.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.skipif(not Path(sys.executable).with_name("weed").exists(), reason="SeaweedFS is not installed")
def test_every_phase_is_measured_at_every_place_and_nothing_is_left(tmp_path):
    image = tmp_path / "image"
    image.write_bytes(random.Random(5).randbytes(2 * MIB))

    ran = bench(tmp_path, image, "--latency", "5ms", "--json")

    assert ran.returncode == 0, ran.stderr
    rows = json.loads(ran.stdout)["rows"]
    assert {(row["place"], row["phase"]) for row in rows} == {
        (place, phase)
        for place in ("directory", "S3 near", "S3 far")
        for phase in ("first push", "second push", "restore")
    }
    over_s3 = [row for row in rows if row["place"] != "directory"]
    assert all(row["requests"] > row["connections"] > 0 for row in over_s3), "connections are used again"
    assert list(tmp_path.iterdir()) == [image]
