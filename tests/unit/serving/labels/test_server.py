"""Where the page listens, and whom it believes who asks."""

from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from contract.errors import ConfigError
from serving.labels.server import PageSettings, listening

PAGE = PageSettings("sqlite://", Path("tokens"), Path("secret"))
BEHIND = PageSettings("sqlite://", Path("t"), Path("s"), host="0.0.0.0", is_behind_tls=True)


def address_seen(settings: PageSettings, sent_by: str) -> str:
    """Return whom an application sees that is served so."""
    app = FastAPI()

    @app.get("/")
    def who(request: Request) -> str:
        return request.client.host if request.client else ""

    served = uvicorn.Config(app, **listening(settings))
    served.load()
    client = TestClient(served.loaded_app, client=(sent_by, 1234))
    return str(client.get("/", headers={"x-forwarded-for": "203.0.113.5"}).json())


@pytest.mark.parametrize(
    ("proxy", "sent_by", "seen"),
    [
        ("", "10.0.0.7", "10.0.0.7"),
        ("", "127.0.0.1", "203.0.113.5"),
        ("10.0.0.7", "10.0.0.7", "203.0.113.5"),
        ("192.0.2.1, 10.0.0.0/24", "10.0.0.7", "203.0.113.5"),
        ("10.0.0.7", "10.0.0.8", "10.0.0.8"),
    ],
)
def test_only_the_proxy_is_believed_who_asks(proxy: str, sent_by: str, seen: str) -> None:
    settings = replace(BEHIND, proxy=proxy)
    settings.check()
    assert address_seen(settings, sent_by) == seen


def test_a_frame_of_no_site_is_refused() -> None:
    replace(PAGE, framed_by="https://airflow.example:8080").check()
    for wrong in ("airflow", "https://a.example/x", "*", "https://a; script-src *"):
        with pytest.raises(ConfigError, match="--framed-by .*: expected the origin of a site"):
            replace(PAGE, framed_by=wrong).check()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (replace(PAGE, proxy="10.0.0.7"), "--proxy 10.0.0.7: give --behind-tls too"),
        (replace(BEHIND, proxy="proxy.lan"), "expected addresses or networks .*'proxy.lan'"),
        (replace(BEHIND, proxy="*"), "expected addresses or networks"),
        (replace(BEHIND, proxy="10.0.0.7,"), "expected addresses or networks"),
    ],
)
def test_a_proxy_that_is_none_is_refused(settings: PageSettings, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        settings.check()
