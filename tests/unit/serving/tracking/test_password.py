"""The door in front of MLflow, as any ASGI application."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from contract.errors import ConfigError
from serving.tracking.password import PasswordDoor, set_database_password

PASSWORD = "with: a colon, and ü"


def basic(words: str) -> bytes:
    return b"Basic " + base64.b64encode(words.encode())


RIGHT = basic(f"slipway:{PASSWORD}")


async def application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "reached", "path": scope.get("path")})


def asked(*authorization: bytes, path: str = "/api", kind: str = "http") -> list[dict[str, Any]]:
    """Return what the door sends, or the application behind it."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(dict(message))

    headers = [(b"authorization", value) for value in authorization]
    door = PasswordDoor(application, PASSWORD)
    asyncio.run(door({"type": kind, "path": path, "headers": headers}, None, send))  # type: ignore[arg-type]
    return sent


@pytest.mark.parametrize("header", [RIGHT, RIGHT.replace(b"Basic ", b"basic   ")])
def test_who_has_the_password_gets_in(header: bytes) -> None:
    assert asked(header) == [{"type": "reached", "path": "/api"}]


@pytest.mark.parametrize(
    "authorization",
    [
        (),
        (b"",),
        (b"Basic",),
        (b"Basic !!!",),
        (b"Bearer " + RIGHT[6:],),
        (RIGHT[:-4],),
        (basic(f"admin:{PASSWORD}"),),
        (basic("slipway:"),),
        (basic(f"slipway:{PASSWORD} "),),
        (RIGHT, RIGHT),
    ],
)
def test_everybody_else_is_asked_for_it(authorization: tuple[bytes, ...]) -> None:
    start, body = asked(*authorization)
    assert (start["type"], start["status"]) == ("http.response.start", 401)
    headers = dict(start["headers"])
    assert headers[b"www-authenticate"].startswith(b"Basic realm=")
    assert int(headers[b"content-length"]) == len(body["body"])


@pytest.mark.parametrize("path", ["/health", "/version"])
def test_that_it_is_up_may_be_asked_by_all(path: str) -> None:
    assert asked(path=path) == [{"type": "reached", "path": path}]


@pytest.mark.parametrize("path", ["/health/", "//health", "/healthz", "/health/../api", ""])
def test_nothing_else_is_open(path: str) -> None:
    assert asked(path=path)[0]["status"] == 401


def test_a_websocket_is_closed() -> None:
    assert asked(kind="websocket") == [{"type": "websocket.close", "code": 1008}]


def test_the_databases_password_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from a file\n", encoding="utf-8")
    environment = {"SLIPWAY_DATABASE_PASSWORD_FILE": str(file)}
    set_database_password(environment)
    assert environment["PGPASSWORD"] == "from a file"  # libpq's own variable
    without: dict[str, str] = {}
    set_database_password(without)
    assert without == {}


def test_a_password_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    environment = {"SLIPWAY_DATABASE_PASSWORD_FILE": str(tmp_path / "missing")}
    with pytest.raises(ConfigError, match="SLIPWAY_DATABASE_PASSWORD_FILE .*missing: cannot read"):
        set_database_password(environment)
