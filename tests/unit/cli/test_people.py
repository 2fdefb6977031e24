"""Who is at the command line."""

import os
import pwd

import pytest

from cli.people import author, user_name

VARIABLES = ("LOGNAME", "USER", "LNAME", "USERNAME")


def test_a_user_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    assert user_name() == "ada"
    assert author() == "ada at the command line"


def test_a_user_without_a_name_as_in_a_container_is_a_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    known = {entry.pw_uid for entry in pwd.getpwall()}
    nameless = next(number for number in range(50_000, 60_000) if number not in known)
    monkeypatch.setattr(os, "getuid", lambda: nameless)
    assert user_name() == f"user {nameless}"
    assert author() == f"user {nameless} at the command line"
