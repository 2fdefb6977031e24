"""The file of tokens besides the owner's, as the agent and the label page read it."""

import logging
from pathlib import Path

from contract.errors import DataError, NotFoundError
from contract.records.access import AgentToken, AgentTokens
from contract.tokens import token_digest

log = logging.getLogger("slipway.agent")


_State = tuple[int, int, int]  # of a file: when it was changed, which one it is, its size


class TokenFile:
    """Knows the tokens by their digest; the file is read again when it changes.

    Threads share it: what was read and its state are one value, replaced as a whole.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = path
        self._known: tuple[_State | None, dict[str, AgentToken]] = (None, {})

    def find(self, given: str) -> AgentToken | None:
        """Return what is kept of a token; None for one that is not known."""
        return self.with_digest(token_digest(given))

    def with_digest(self, digest: str) -> AgentToken | None:
        """Return the token of a digest; None where there is none, or no longer."""
        return self._tokens().get(digest)

    def _tokens(self) -> dict[str, AgentToken]:
        """Return the tokens by their digest; none while the file is not there, or is broken."""
        if self._file is None:
            return {}
        try:
            found = self._file.stat()
            state = (found.st_mtime_ns, found.st_ino, found.st_size)
            seen, by_digest = self._known
            if state != seen:
                by_digest = _read(self._file)
                self._known = (state, by_digest)
        except (OSError, NotFoundError):
            self._known = (None, by_digest := {})
        return by_digest


def _read(file: Path) -> dict[str, AgentToken]:
    try:
        return {token.digest: token for token in AgentTokens.read(file).tokens}
    except DataError as error:  # told once, until the file changes
        log.error("tokens besides the owner's are refused: %s", error)
        return {}
