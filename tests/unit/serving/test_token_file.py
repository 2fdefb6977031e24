"""Tokens are found while their file is read, and are gone with it."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Self

import pytest

from contract.records.access import AgentToken, AgentTokens
from contract.tokens import token_digest
from serving.token_file import TokenFile


def write(file: Path, *names: str) -> None:
    made_at = datetime(2026, 11, 29, tzinfo=UTC)
    tokens = tuple(
        AgentToken(name=name, digest=token_digest(name), rights=("label",), created_at=made_at)
        for name in names
    )
    AgentTokens(tokens=tokens).write(file)


def test_a_token_is_found_while_another_request_reads_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tokens.json"
    write(file, "ada")
    tokens, found = TokenFile(file), list[AgentToken | None]()
    assert tokens.find("ada") is not None
    write(file, "ada", "bob")

    class Interrupted(AgentTokens):
        """The same document; another request comes while it is read the first time."""

        is_first: ClassVar[bool] = True

        @classmethod
        def read(cls, path: Path) -> Self:
            if cls.is_first:
                cls.is_first = False
                found.append(tokens.find("ada"))
            return super().read(path)

    monkeypatch.setattr("serving.token_file.AgentTokens", Interrupted)
    assert tokens.find("bob") is not None
    assert [one.name for one in found if one] == ["ada"]


def test_a_token_is_gone_with_its_file_and_back_with_it(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    tokens = TokenFile(file)
    assert tokens.find("ada") is None
    for _ in range(2):
        write(file, "ada")
        assert tokens.find("ada") is not None
        file.unlink()
        assert tokens.find("ada") is None


def test_a_broken_file_lets_nobody_in_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tokens.json"
    write(file, "ada")
    tokens = TokenFile(file)
    assert tokens.find("ada") is not None
    file.write_text("{")
    with caplog.at_level(logging.ERROR, "slipway.agent"):
        assert [tokens.find("ada"), tokens.find("ada")] == [None, None]
    assert caplog.text.count("tokens besides the owner's are refused") == 1
    write(file, "ada")
    assert tokens.find("ada") is not None
