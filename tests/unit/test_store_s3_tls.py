"""The S3 store over HTTPS: a certificate is trusted when its authority is named by `ca`, and only then."""

import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engine.errors import Refused
from engine.store.url import open_store
from tests.manual_clock import ManualClock

pytestmark = pytest.mark.slow


class Clockwork(BaseHTTPRequestHandler):
    """Answers every HEAD with the time."""

    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        """Keep the test run quiet."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that vouches for itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return file


@pytest.fixture
def endpoint(certificate, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "user")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    server = HTTPServer(("127.0.0.1", 0), Clockwork)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=True)
    server.handle_error = lambda *request: None  # clients that do not trust it hang up, as they should
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def now(url):
    store = open_store(url, environment={}, clock=ManualClock())
    try:
        return store.now()
    finally:
        store.close()


def test_an_unknown_authority_is_refused_with_the_parameter_that_helps(endpoint):
    with pytest.raises(Refused, match="certificate cannot be verified") as caught:
        now(f"s3://bucket?endpoint={endpoint}")
    assert "ca=FILE" in caught.value.hint


def test_an_authority_that_the_url_names_is_trusted(endpoint, certificate):
    assert abs(now(f"s3://bucket?endpoint={endpoint}&ca={certificate}") - datetime.now(UTC)) < timedelta(minutes=1)


def test_an_authority_that_the_environment_names_is_trusted(endpoint, certificate, monkeypatch):
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    assert now(f"s3://bucket?endpoint={endpoint}").tzinfo is UTC


def test_a_ca_file_that_holds_no_certificate_is_refused(endpoint, tmp_path):
    (tmp_path / "ca.pem").write_text("not a certificate")
    with pytest.raises(Refused, match="certificate"):
        now(f"s3://bucket?endpoint={endpoint}&ca={tmp_path}/ca.pem")
