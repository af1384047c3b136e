"""Debian's ZooKeeper as processes of this machine: one server, an ensemble of three, or one with TLS."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from ringway.processes import Processes
from tests.harness.ports import pick_port
from tests.harness.server_process import Scope, ServerProcess
from tests.harness.waiting import wait_until

JAR = Path("/usr/share/java/zookeeper.jar")
START_TIMEOUT_S = 30.0
_ATTEMPTS = 5  # of finding ports that nobody took between the look and the bind
_SETTINGS = """\
tickTime=500
minSessionTimeout=1000
maxSessionTimeout=60000
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
clientPortAddress=127.0.0.1
"""


def available() -> bool:
    return JAR.exists() and shutil.which("java") is not None


def version() -> str:
    """Of the installed package, from the name of its jar."""
    jars = sorted(JAR.parent.glob("zookeeper-[0-9]*.jar"))
    return jars[0].stem.removeprefix("zookeeper-") if jars else "of unknown version"


def srvr(address: str, timeout_s: float = 1.0) -> str:
    """The server's answer to `srvr`; has a `Mode:` line once it serves. Raises OSError when there is none."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=timeout_s) as connection:
        connection.sendall(b"srvr")
        return b"".join(iter(lambda: connection.recv(4096), b"")).decode()


def mode(address: str) -> str:
    """standalone, leader or follower; empty while the server does not serve."""
    try:
        lines = srvr(address).splitlines()
    except OSError:
        return ""
    return next((line.removeprefix("Mode: ") for line in lines if line.startswith("Mode: ")), "")


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files of a throw-away authority and one certificate of it, for 127.0.0.1 and localhost."""

    ca: Path
    cert: Path
    key: Path
    keystore: Path  # key and certificate in one file, as ZooKeeper wants them

    @classmethod
    def make(cls, folder: Path) -> Certificates:
        made = cls(folder / "ca.pem", folder / "cert.pem", folder / "key.pem", folder / "keystore.pem")
        ca_key = folder / "ca-key.pem"
        extensions = folder / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n"
                              "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n")
        new: list[str | Path] = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-sha256"]
        _run(*new, "-x509", "-days", "2", "-subj", "/CN=ringway test CA", "-keyout", ca_key, "-out", made.ca,
             "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # Python 3.13 asks for it (VERIFY_X509_STRICT)
        _run(*new, "-subj", "/CN=localhost", "-keyout", made.key, "-out", folder / "request.pem")
        sign: list[str | Path] = ["openssl", "x509", "-req", "-days", "2", "-in", folder / "request.pem"]
        _run(*sign, "-CA", made.ca, "-CAkey", ca_key, "-CAcreateserial", "-extfile", extensions, "-out", made.cert)
        made.keystore.write_text(made.key.read_text() + made.cert.read_text())
        return made


def _run(*command: str | Path) -> None:
    subprocess.run(list(map(str, command)), check=True, capture_output=True)


class EndedAtStart(AssertionError):
    """A server ended before it served: mostly because another process took one of its ports meanwhile."""


class JavaServer(ServerProcess):
    """One ZooKeeper process with a folder of its own. `kill` and `start` keep the data; `wipe` loses it."""

    def __init__(self, processes: Processes, folder: Path, settings: str = "", *, tls: bool = False) -> None:
        super().__init__(processes)
        self._settings = settings
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self.certificates = Certificates.make(folder) if tls else None
        self.port = pick_port()
        self.tls_port = pick_port() if tls else 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def launch(self) -> None:
        """Starts the process without waiting for it."""
        configuration = self._folder / "zoo.cfg"
        configuration.write_text(self._configuration())
        self._child = self._processes.start(f"zookeeper-{self.port}", self._command(configuration))

    def start(self) -> None:
        """Starts and waits until it serves. Raises EndedAtStart."""
        self.launch()
        self.wait_serving()

    def wait_serving(self, timeout_s: float = START_TIMEOUT_S) -> None:
        wait_until(lambda: not self.alive or self._serves(), timeout_s, f"ZooKeeper at {self.address} serves")
        if not self.alive:
            self.child.wait(5.0)
            raise EndedAtStart("\n".join([f"ZooKeeper at {self.address} {self.child.ending}:", *self.child.lines]))

    def _serves(self) -> bool:
        """It is this process that has the port, not another test's server, and it is in a working quorum."""
        try:
            sockets = psutil.Process(self.child.pid).net_connections("tcp")
        except psutil.NoSuchProcess:
            return False
        listening = {each.laddr.port for each in sockets if each.status == psutil.CONN_LISTEN}
        return self.port in listening and mode(self.address) != ""

    def start_somewhere(self) -> None:
        """The first start: picks other ports when these were taken meanwhile."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return self.start()
            except EndedAtStart:
                self.port = pick_port()
                self.tls_port = pick_port() if self.tls_port else 0
        return self.start()

    def wipe(self) -> None:
        """Loses all data, as after the loss of the data directory; a running server is killed and started again."""
        self._while_down(lambda: shutil.rmtree(self._folder / "version-2", ignore_errors=True))

    def back_up(self) -> Path:
        """A copy of the data as they are now; a running server is killed for it and started again."""
        copy = self._folder / "backup"
        self._while_down(lambda: shutil.copytree(self._folder / "version-2", copy))
        return copy

    def restore(self, copy: Path) -> None:
        """Goes back to the data of a copy; a running server is killed and started again."""

        def replace() -> None:
            shutil.rmtree(self._folder / "version-2")
            shutil.copytree(copy, self._folder / "version-2")

        self._while_down(replace)

    def _while_down(self, work: Callable[[], object]) -> None:
        was_alive = self.kill_if_alive()
        work()
        if was_alive:
            self.start()

    def srvr(self) -> str:
        return srvr(self.address)

    def _configuration(self) -> str:
        lines = f"{_SETTINGS}dataDir={self._folder}\nclientPort={self.port}\n{self._settings}"
        if self.certificates is None:
            return lines
        return lines + (
            f"secureClientPort={self.tls_port}\nsecureClientPortAddress=127.0.0.1\n"
            "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n"
            f"ssl.keyStore.location={self.certificates.keystore}\n"
            f"ssl.trustStore.location={self.certificates.ca}\n"
        )

    def _command(self, configuration: Path) -> list[str]:
        jars = [str(JAR), *(map(str, JAR.parent.glob("netty-*.jar")) if self.certificates else ())]
        # forceSync=no: tests survive a kill -9, but not a power cut
        options = ["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.forceSync=no"]
        options += ["-Dlog4j.configuration=file:/dev/null", "-Dzookeeper.sasl.client=false"]
        options += ["-Dzookeeper.fastleader.maxNotificationInterval=1000"]  # as docs/operations.md advises
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        return [shutil.which("java") or "java", *options, "-cp", ":".join(jars), main, str(configuration)]


class RealZooKeeper(JavaServer, Scope):
    """Debian's ZooKeeper, alone, for as long as the context lasts; `tls` adds a secure port."""

    real = True

    def __init__(self, *, tls: bool = False) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="ringway-zookeeper-"))
        super().__init__(Processes(), self._root / "data", tls=tls)

    @property
    def tls_address(self) -> str:
        return f"127.0.0.1:{self.tls_port}"

    def open(self) -> None:
        self.start_somewhere()

    def close(self) -> None:
        self.kill_if_alive()
        self._processes.close()
        shutil.rmtree(self._root, ignore_errors=True)


class Ensemble(Scope):
    """Three servers that elect a leader; servers are named by their index, 0 to 2."""

    real = True

    def __init__(self, size: int = 3) -> None:
        self._size = size
        self._root = Path(tempfile.mkdtemp(prefix="ringway-ensemble-"))
        self._processes = Processes()
        self.servers: list[JavaServer] = []

    @property
    def address(self) -> str:
        """All servers, as a client wants them: host:port,host:port,host:port."""
        return ",".join(server.address for server in self.servers)

    def close(self) -> None:
        for server in self.servers:
            server.kill_if_alive()
        self._processes.close()
        shutil.rmtree(self._root, ignore_errors=True)

    def leader(self) -> int | None:
        """Index of the leader; None while there is none."""
        return next((index for index, server in enumerate(self.servers) if mode(server.address) == "leader"), None)

    def followers(self) -> list[int]:
        return [index for index, server in enumerate(self.servers) if mode(server.address) == "follower"]

    def wait_leader(self, timeout_s: float = START_TIMEOUT_S) -> int:
        """Waits until one leads and every other live server follows; returns the leader."""
        alive = sum(server.alive for server in self.servers)
        wait_until(
            lambda: self.leader() is not None and len(self.followers()) == alive - 1, timeout_s, "the ensemble serves"
        )
        leader = self.leader()
        assert leader is not None
        return leader

    def kill(self, index: int) -> None:
        self.servers[index].kill()

    def restart(self, index: int) -> None:
        """Starts a server again on its port with its data; does not wait, for it may not serve without a quorum."""
        self.servers[index].kill_if_alive()
        self.servers[index].launch()

    def freeze(self, index: int) -> None:
        self.servers[index].freeze()

    def thaw(self, index: int) -> None:
        self.servers[index].thaw()

    def wipe(self) -> None:
        """All servers lose all data, and are started again; does not wait."""
        self._while_down(JavaServer.wipe)

    def back_up(self) -> list[Path]:
        """A copy of each server's data as they are now; they are killed for it, and started again."""
        copies: list[Path] = []
        self._while_down(lambda server: copies.append(server.back_up()))
        return copies

    def restore(self, copies: Sequence[Path]) -> None:
        """All servers go back to these copies, and are started again; does not wait."""
        left = iter(copies)
        self._while_down(lambda server: server.restore(next(left)))

    def _while_down(self, work: Callable[[JavaServer], object]) -> None:
        for server in self.servers:
            server.kill_if_alive()
        for server in self.servers:
            work(server)
        for server in self.servers:
            server.launch()

    def open(self) -> None:
        for attempt in range(_ATTEMPTS):
            self._launch_all(attempt)
            try:
                for server in self.servers:
                    server.wait_serving()
                return
            except EndedAtStart:
                for server in self.servers:
                    server.kill_if_alive()
        raise AssertionError(f"no free ports for an ensemble in {_ATTEMPTS} attempts")

    def _launch_all(self, attempt: int) -> None:
        members = "".join(f"server.{n}=127.0.0.1:{pick_port()}:{pick_port()}\n" for n in range(1, self._size + 1))
        settings = f"initLimit=10\nsyncLimit=5\n{members}"
        self.servers = []
        for number in range(1, self._size + 1):
            folder = self._root / f"{attempt}-{number}"
            self.servers.append(JavaServer(self._processes, folder, settings))
            (folder / "myid").write_text(f"{number}\n")
        for server in self.servers:
            server.launch()
