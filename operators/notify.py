"""Tell people of failures, refusals and roll-backs: in the log, by mail, by webhook."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from airflow.sdk import BaseHook, BaseNotifier

from contract.layout import RunLayout
from contract.schema.pipeline import NotifyConfig
from contract.storage import local_path
from operators.run_note import write_note
from operators.tracked_run import end_tracked_run
from operators.trials import withdraw_trial

log = logging.getLogger(__name__)

Kind = Literal["failed", "refused", "rolled back", "waits for approval"]

_WEBHOOK_SECONDS = 10.0
_SHOWN_CHARACTERS = 2000


@dataclass(frozen=True)
class Notice:
    """What happened, where and why."""

    kind: Kind
    pipeline: str
    run_id: str
    step: str
    reasons: tuple[str, ...] = ()
    url: str = ""

    @property
    def subject(self) -> str:
        """One line, as a mail's subject."""
        return f"Slipway: {self.pipeline} {self.kind} at {self.step}"

    @property
    def text(self) -> str:
        """All of it, as plain text."""
        lines = [f"{self.subject} (run {self.run_id})", *self.reasons]
        return "\n".join([*lines, self.url] if self.url else lines)


class LogNotifier(BaseNotifier):
    """Writes the notice to the task's log."""

    def __init__(self, notice: Notice) -> None:
        super().__init__()
        self.notice = notice

    def notify(self, context: Any) -> None:
        del context
        self.log.warning("%s", self.notice.text)


class WebhookNotifier(BaseNotifier):
    """Posts the notice as JSON to the URL of an Airflow HTTP connection.

    The URL is the connection's host (with schema and port); its password, if any, is sent as a
    bearer token; its extra fields are sent as headers. The body carries `text`, which chat
    services show, and each field of the notice.
    """

    def __init__(self, notice: Notice, connection_id: str) -> None:
        super().__init__()
        self.notice = notice
        self.connection_id = connection_id

    def notify(self, context: Any) -> None:
        del context
        from contract.clients.http import open_client

        connection = BaseHook.get_connection(self.connection_id)
        headers = {name: str(value) for name, value in connection.extra_dejson.items()}
        body = {"text": self.notice.text, **asdict(self.notice)}
        url = _url(connection.host or "", connection.schema, connection.port)
        with open_client(url, _WEBHOOK_SECONDS, connection.password or "") as http:
            http.post(url, json=body, headers=headers).raise_for_status()


def notifiers(notify: NotifyConfig, notice: Notice) -> Sequence[BaseNotifier]:
    """Return everybody who should hear of the notice, the log first."""
    listening: list[BaseNotifier] = [LogNotifier(notice)]
    if notify.emails:
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier

        # The text comes by the context: a template made of it would run what it contains.
        mail = SmtpNotifier(
            to=list(notify.emails),
            subject="{{ notice.subject }}",
            html_content="<pre>{{ notice.text | e }}</pre>",
            smtp_conn_id=notify.smtp_connection,
        )
        listening.append(mail)
    if notify.webhook_connection:
        listening.append(WebhookNotifier(notice, notify.webhook_connection))
    return listening


def announce(notify: NotifyConfig, notice: Notice, context: Mapping[str, Any]) -> None:
    """Tell everybody. Who cannot be reached is named in the log and fails nothing."""
    for notifier in notifiers(notify, notice):
        try:
            notifier({**context, "notice": notice})
        except Exception as error:  # noqa: BLE001 (a mail server's trouble is not the run's)
            log.warning("%s: not notified: %s", type(notifier).__name__, error)


@dataclass(frozen=True)
class FailureNotice:
    """The `on_failure_callback` of every task of a pipeline: called after the last retry."""

    notify: NotifyConfig
    root: str = ""  # where the run's note finds the run; empty: no note

    def __call__(self, context: Mapping[str, Any]) -> None:
        task = context["task_instance"]
        error = context.get("exception")
        reasons = (str(error)[:_SHOWN_CHARACTERS],) if error else ()
        notice = Notice(
            "failed", task.dag_id, task.run_id, task.task_id, reasons, getattr(task, "log_url", "")
        )
        announce(self.notify, notice, context)
        if self.root:
            run = RunLayout(local_path(self.root), task.dag_id, str(task.run_id))
            outcome = f"failed in '{task.task_id.rpartition('.')[2]}'"
            if withdrawn := withdraw_trial(run, f"the run has {outcome}"):
                reasons = (*reasons, withdrawn)
            write_note(run, outcome, reasons)
            end_tracked_run(run, outcome, "\n".join(reasons))


def _url(host: str, schema: str | None, port: int | None) -> str:
    address = host if "://" in host else f"{schema or 'https'}://{host}"
    if port is None:
        return address
    scheme, _, rest = address.partition("://")
    name, slash, path = rest.partition("/")
    return f"{scheme}://{name}:{port}{slash}{path}"
