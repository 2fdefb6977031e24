"""MLflow's page, which begins with its part for model training.

MLflow 3.17 has two parts, for agents and for model training. The page shows the one that the
browser has last chosen, whatever the kind of an experiment (`mlflow.experimentKind`), and a browser
that has not chosen yet is shown traces and judges. Here such a browser begins with the other part.
"""

from serving.tracking.password import Application, Message, Receive, Scope, Send

# Where MLflow's page keeps the choice; a test looks for it in the page that is installed.
KEY, VALUE = "mlflow.workflowType_v1", '"machine_learning"'
_SCRIPT = (
    f"<script>try {{ localStorage.getItem('{KEY}') || localStorage.setItem('{KEY}', '{VALUE}') }} "
    "catch (refused) {}</script>"
).encode()
_HEAD = b"<head>"
_ASKED = frozenset({b"accept-encoding", b"if-modified-since", b"if-none-match"})
_ANSWERED = frozenset({b"content-length", b"etag", b"last-modified"})


class FirstPage:
    """Adds to the page a script that makes the choice where the browser has none."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and change the answer if it is the page."""
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("GET", "/"):
            await self._application(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name not in _ASKED]
        await self._application({**scope, "headers": headers}, receive, _Changing(send).send)


class _Changing:
    """Sends an answer on when it is whole."""

    def __init__(self, send: Send) -> None:
        self._send, self._start = send, dict[str, object]()
        self._body = list[bytes]()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = dict(message)
            return
        self._body.append(message.get("body", b""))
        if message.get("more_body"):
            return
        body = b"".join(self._body).replace(_HEAD, _HEAD + _SCRIPT, 1)
        kept = [one for one in self._start["headers"] if one[0].lower() not in _ANSWERED]  # type: ignore[attr-defined]
        length = (b"content-length", str(len(body)).encode())
        await self._send({**self._start, "headers": [*kept, length]})
        await self._send({"type": "http.response.body", "body": body})
