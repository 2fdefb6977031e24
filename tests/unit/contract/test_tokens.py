"""Reading a token file."""

from pathlib import Path

import pytest

from contract.errors import ConfigError
from contract.tokens import bearer, read_token


def test_a_token_is_the_one_line_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("  hush\n")
    assert read_token(tmp_path / "token") == "hush"


def test_a_missing_file_is_refused_by_its_option(tmp_path: Path) -> None:
    message = f"^--token-file {tmp_path}/none: cannot read the token: No such file or directory$"
    with pytest.raises(ConfigError, match=message):
        read_token(tmp_path / "none", "--token-file")


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_an_empty_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(ConfigError, match=f"^{tmp_path}/token: expected a token, found an empty"):
        read_token(tmp_path / "token")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot read the token: 'utf-8' codec can't decode"):
        read_token(tmp_path / "token")


def test_a_token_is_sent_as_rfc_6750_says() -> None:
    assert bearer("s3cret") == {"Authorization": "Bearer s3cret"}
