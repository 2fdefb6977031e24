import email
import json
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from contract.schema.pipeline import NotifyConfig
from operators.notify import FailureNotice, Notice, announce

NOTICE = Notice(
    "refused", "digits", "run-1", "bless", ("accuracy 0.91 is below 0.93",), "http://ui"
)


@dataclass
class Listener:
    """A server of the loopback that keeps what it is told."""

    port: int = 0
    status: int = 200
    heard: list[Any] = field(default_factory=list)


@pytest.fixture
def webhook() -> Iterator[Listener]:
    listener = Listener()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            listener.heard.append((self.path, dict(self.headers), json.loads(body)))
            self.send_response(listener.status)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        listener.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield listener
        server.shutdown()


@pytest.fixture
def mail_server() -> Iterator[Listener]:
    listener = Listener()

    class Handler(socketserver.StreamRequestHandler):
        """As much of SMTP (RFC 5321) as takes one mail."""

        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline():
                verb = line.split()[0].upper()
                if verb == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = iter(self.rfile.readline, b".\r\n")
                    listener.heard.append(b"".join(lines).decode())
                self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 fine\r\n")
                if verb == b"QUIT":
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        listener.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield listener
        server.shutdown()


def connect(monkeypatch: pytest.MonkeyPatch, name: str, **connection: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))


def test_the_log_always_hears_of_it() -> None:
    with structlog.testing.capture_logs() as logged:
        announce(NotifyConfig(), NOTICE, {})
    said = logged[-1]["event"]
    assert said.splitlines() == [
        "Slipway: digits refused at bless (run run-1)",
        "accuracy 0.91 is below 0.93",
        "http://ui",
    ]


def test_a_webhook_gets_the_notice_as_json(
    webhook: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(
        monkeypatch,
        "chat",
        conn_type="http",
        host="127.0.0.1/hooks/ml",
        schema="http",
        port=webhook.port,
        password="s3cret",
        extra={"X-Team": "ml"},
    )
    announce(NotifyConfig(webhook_connection="chat"), NOTICE, {})
    path, headers, body = webhook.heard[0]
    assert path == "/hooks/ml"
    assert (headers["Authorization"], headers["X-Team"]) == ("Bearer s3cret", "ml")
    assert body["text"] == NOTICE.text
    assert (body["kind"], body["run_id"], body["reasons"]) == (
        *("refused", "run-1"),
        ["accuracy 0.91 is below 0.93"],
    )


def test_mail_is_sent_and_never_rendered_as_a_template(
    mail_server: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(
        monkeypatch,
        "mail",
        conn_type="smtp",
        host="127.0.0.1",
        port=mail_server.port,
        extra={"disable_ssl": True, "disable_tls": True, "from_email": "slipway@example.org"},
    )
    notice = Notice("failed", "digits", "run-1", "train", ("{{ 7 * 6 }} <b>",))
    notify = NotifyConfig(emails=("team@example.org",), smtp_connection="mail")
    announce(notify, notice, {})
    mail = email.message_from_string(mail_server.heard[0])
    assert mail["Subject"] == "Slipway: digits failed at train"
    assert mail["To"] == "team@example.org"
    (text,) = [part.get_payload(decode=True) for part in mail.walk() if not part.is_multipart()]
    assert b"{{ 7 * 6 }} &lt;b&gt;" in text


def test_who_cannot_be_reached_fails_nothing(
    webhook: Listener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    webhook.status = 500
    connect(monkeypatch, "chat", conn_type="http", host="http://127.0.0.1", port=webhook.port)
    announce(NotifyConfig(webhook_connection="chat"), NOTICE, {})
    assert len(webhook.heard) == 1
    assert "WebhookNotifier: not notified" in caplog.text


def test_a_failed_task_is_announced_with_its_error() -> None:
    task = SimpleNamespace(dag_id="digits", run_id="run-2", task_id="ingest", log_url="http://log")
    context = {"task_instance": task, "exception": ValueError("no such file: a.csv")}
    with structlog.testing.capture_logs() as logged:
        FailureNotice(NotifyConfig())(context)
    said = logged[-1]["event"]
    assert "digits failed at ingest (run run-2)\nno such file: a.csv\nhttp://log" in said
