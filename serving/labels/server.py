"""The process that serves the label page."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.errors import ConfigError
from contract.private_files import secret_file
from serving.labels.page.app import Desk, label_app
from serving.labels.page.conflicts import Judge, by_votes
from serving.labels.page.door import Door
from serving.labels.page.visitors import Visitors
from serving.labels.store.database import Database
from serving.labels.stream.routes import stream_routes
from serving.labels.stream.traffic import Ask, nobody
from serving.labels.stream.watching import Watches
from serving.labels.truth import truth_routes
from serving.token_file import TokenFile

_SHUTDOWN_SECONDS = 2  # streams never end by themselves
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?")
_OWN_MACHINE = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class PageSettings:
    """Where the page is, and what it works with.

    Attributes:
        secret: File of a secret that is made where there is none: two servers of one page share it.
        is_behind_tls: Whether a proxy before it speaks TLS with browsers.
        proxy: Addresses or networks of that proxy, with commas between them: it is believed who
            asks (`X-Forwarded-For`). Empty: it is on this machine.
        framed_by: Origin of the site that may show the pages in a frame. Empty: nobody.
    """

    database: str
    tokens: Path
    secret: Path
    host: str = "127.0.0.1"
    port: int = 8800
    certificate: Path | None = None
    private_key: Path | None = None
    is_behind_tls: bool = False
    proxy: str = ""
    framed_by: str = ""

    def check(self) -> None:
        """Raise ConfigError if tokens would cross a network in the clear, or for a wrong proxy."""
        if (self.certificate is None) != (self.private_key is None):
            raise ConfigError(["--certificate and --private-key belong together: give both"])
        if self.host not in _OWN_MACHINE and not self.is_secure:
            raise ConfigError(
                [
                    f"--host {self.host}: labellers' tokens would cross the network unencrypted; "
                    "give --certificate and --private-key, or --behind-tls where a proxy before "
                    "it speaks TLS"
                ]
            )
        self._check_proxy()
        if self.framed_by and _ORIGIN.fullmatch(self.framed_by) is None:
            raise ConfigError(
                [
                    f"--framed-by {self.framed_by}: expected the origin of a site, such as "
                    "https://airflow.example:8080, without a path"
                ]
            )

    def _check_proxy(self) -> None:
        if self.proxy and not self.is_behind_tls:
            raise ConfigError([f"--proxy {self.proxy}: give --behind-tls too, or leave it out"])
        try:
            for address in self.proxy.split(",") if self.proxy else ():
                ipaddress.ip_network(address.strip())
        except ValueError as error:
            raise ConfigError(
                [f"--proxy: expected addresses or networks such as 10.0.0.7,10.1.0.0/16: {error}"]
            ) from error

    @property
    def is_secure(self) -> bool:
        return self.certificate is not None or self.is_behind_tls


@dataclass(frozen=True)
class Sources:
    """Where the pages know things from that are not in the database.

    Attributes:
        root: The artifact root, below which the prediction logs are.
        judge: Says for the reviewer which label the answers give together, and how sure it is.
        traffic: What the agent says of the traffic.
    """

    root: Path
    judge: Judge = by_votes
    traffic: Ask = nobody


def serve_labels(settings: PageSettings, sources: Sources) -> None:
    """Serve the pages until SIGTERM or Ctrl-C.

    Raises:
        ConfigError: If the settings or the database are wrong.
        ServiceUnavailableError: If the database does not answer.
    """
    import uvicorn

    settings.check()
    secret = secret_file(settings.secret).read_text(encoding="utf-8")
    database = Database(settings.database)
    visitors = Visitors(TokenFile(settings.tokens), secret)
    door = Door(visitors, settings.is_secure, settings.framed_by or "'none'")
    watches = Watches(sources.root)
    desk = Desk(database, door, sources.judge, watches.pipelines)
    streams = stream_routes(door, watches, sources.traffic)
    app = label_app(desk, streams, truth_routes(door, database, desk.now))
    try:
        uvicorn.run(app, **listening(settings))
    finally:
        database.close()


def listening(settings: PageSettings) -> dict[str, Any]:
    """Return what uvicorn is told; without a proxy's address it believes this machine only."""
    return {
        "host": settings.host,
        "port": settings.port,
        "ssl_certfile": settings.certificate,
        "ssl_keyfile": settings.private_key,
        "forwarded_allow_ips": settings.proxy or None,
        "log_level": "warning",
        "timeout_graceful_shutdown": _SHUTDOWN_SECONDS,
    }
