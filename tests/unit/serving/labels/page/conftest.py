"""The pages over a database, with people of different rights."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from contract.records.access import AgentToken, AgentTokens, Right
from contract.tokens import token_digest
from serving.labels.page.app import Desk, label_app
from serving.labels.page.conflicts import by_votes
from serving.labels.page.door import Door
from serving.labels.page.visitors import Visitors
from serving.token_file import TokenFile

NOW = 1_796_000_000.0


class Page:
    """The application over a database, with some people's tokens (the same as their names)."""

    def __init__(self, asking: Any, folder: Path) -> None:
        self.asking, self.now = asking, NOW
        self.tokens = folder / "tokens.json"
        self.write_tokens(
            ada=("label",),
            bob=("label",),
            watcher=("read", "approve"),
            planner=("propose",),
            rita=("review",),
            rob=("review",),
        )

    def write_tokens(self, pipeline: str = "*", **rights: tuple[Right, ...]) -> None:
        tokens = tuple(
            AgentToken(
                name=name,
                digest=token_digest(f"token-{name}"),
                rights=of_token,
                pipelines=(pipeline,),
                created_at=datetime(2026, 11, 29, tzinfo=UTC),
            )
            for name, of_token in rights.items()
        )
        AgentTokens(tokens=tokens).write(self.tokens)

    def browser(self, who: str = "", **changes: Any) -> TestClient:
        database = changes.pop("database", self.asking.database)
        visitors = Visitors(TokenFile(self.tokens), "secret")
        judge = changes.pop("judge", by_votes)
        door = Door(visitors, **changes)
        app = label_app(Desk(database, door, judge, now=lambda: self.now))
        client = TestClient(app, base_url="http://labels", follow_redirects=False)
        if who:
            done = client.post("/login", data={"token": f"token-{who}"})
            assert done.status_code == 303
        return client


@pytest.fixture
def open_page(asking: Any, tmp_path: Path) -> Callable[[], Page]:
    return lambda: Page(asking, tmp_path)


@pytest.fixture
def page(asking: Any, open_page: Callable[[], Page]) -> Page:
    asking.add("dark", "light", "pale")
    return open_page()
