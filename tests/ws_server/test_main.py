"""What a node process does at SIGHUP."""

from __future__ import annotations

import signal
import ssl
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

from ringway.zookeeper.probe import ANY_CERTIFICATE
from tests.ws_server.nodes import Nodes, RunningNode
from tests.ws_server.test_tls import certificate


def shown_by(node: RunningNode) -> bytes:
    """The certificate that a new connection gets."""
    address = urlsplit(node.http)
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((address.hostname or "", address.port or 0)))


def kept_in(file: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(file.read_text())


def hang_up(node: RunningNode, told: str) -> None:
    node.child.send(signal.SIGHUP)
    node.child.wait_line(told, 10.0)


def test_sighup_replaces_the_certificate_for_new_connections_and_disturbs_no_old_one(
    zookeeper: str, redis_url: str, tmp_path: Path
) -> None:
    files = certificate(tmp_path, "node-one")
    first = kept_in(files.cert)
    env = {"RINGWAY_TLS_CERT": str(files.cert), "RINGWAY_TLS_KEY": str(files.key)}
    with Nodes(zookeeper, redis_url, env=env) as nodes:
        node = nodes.start("n1")
        assert shown_by(node) == first
        with closing(HTTPSConnection(urlsplit(node.http).netloc, context=ANY_CERTIFICATE, timeout=5.0)) as old:
            old.request("GET", "/livez")
            old.getresponse().read()
            certificate(tmp_path, "node-two")
            hang_up(node, "INFO ringway.ws_server: the certificate was read again")
            assert shown_by(node) == kept_in(files.cert) != first
            old.request("GET", "/livez")
            assert old.getresponse().status == 200


def test_sighup_with_a_bad_certificate_keeps_the_old_one_and_says_so(
    zookeeper: str, redis_url: str, tmp_path: Path
) -> None:
    files = certificate(tmp_path, "node-one")
    first = kept_in(files.cert)
    env = {"RINGWAY_TLS_CERT": str(files.cert), "RINGWAY_TLS_KEY": str(files.key)}
    with Nodes(zookeeper, redis_url, env=env) as nodes:
        node = nodes.start("n1")
        files.cert.write_text("not a certificate")
        hang_up(node, "ERROR ringway.ws_server: the certificate was not reloaded, the old one stays")
        assert shown_by(node) == first


def test_sighup_without_tls_does_no_harm(zookeeper: str, redis_url: str) -> None:
    with Nodes(zookeeper, redis_url, "n1") as nodes:
        node = nodes.nodes["n1"]
        hang_up(node, "INFO ringway.ws_server: SIGHUP: no certificate to read again")
        assert node.get("/livez").status_code == 200
