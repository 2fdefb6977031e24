"""MLflow's page with the choice of its part, as any ASGI application's."""

import asyncio
import importlib.util
import re
from pathlib import Path
from typing import Any

from serving.tracking.first_page import KEY, VALUE, FirstPage

PAGE = [b"<!doctype html><html><he", b"ad><title>M</title></head>", b"</html>"]


def answer(path: str, method: str = "GET") -> tuple[dict[bytes, bytes], bytes, list[bytes]]:
    """Return headers and body of an answer, and the headers that the application was asked with."""
    asked: list[bytes] = []
    sent: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        asked.extend(name for name, _ in scope["headers"])
        headers = [(b"Content-Length", b"56"), (b"etag", b"1"), (b"x-frame-options", b"DENY")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, part in enumerate(PAGE, start=1):
            more = number < len(PAGE)
            await send({"type": "http.response.body", "body": part, "more_body": more})

    async def send(message: Any) -> None:
        sent.append(dict(message))

    headers = [(b"host", b"h"), (b"if-none-match", b"1"), (b"accept-encoding", b"gzip")]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    asyncio.run(FirstPage(application)(scope, None, send))  # type: ignore[arg-type]
    return dict(sent[0]["headers"]), b"".join(one["body"] for one in sent[1:]), asked


def test_the_page_chooses_model_training_where_the_browser_has_chosen_nothing() -> None:
    headers, body, asked = answer("/")
    assert body.startswith(b"<!doctype html><html><head><script>try { localStorage.getItem('mlflow")
    assert body.endswith(b"</script><title>M</title></head></html>")
    assert headers == {b"x-frame-options": b"DENY", b"content-length": str(len(body)).encode()}
    assert asked == [b"host"]


def test_other_answers_are_as_they_were() -> None:
    for path, method in (("/static-files/a.js", "GET"), ("/", "HEAD")):
        headers, body, asked = answer(path, method)
        assert (body, headers[b"etag"]) == (b"".join(PAGE), b"1")
        assert asked == [b"host", b"if-none-match", b"accept-encoding"]


def test_the_page_of_the_installed_mlflow_keeps_its_choice_there() -> None:
    found = importlib.util.find_spec("mlflow")
    assert found is not None and found.origin is not None
    page = Path(found.origin).parent / "server" / "js" / "build"
    assert b"<head>" in (page / "index.html").read_bytes()
    (script,) = re.findall(r'src="static-files/(.*?)"', (page / "index.html").read_text("utf-8"))
    text = (page / script).read_text("utf-8")
    key, version = KEY.rsplit("_v", 1)
    assert f'key:"{key}",version:{version}' in text
    assert f"MACHINE_LEARNING={VALUE}" in text.replace(" ", "")
