"""One thing that `slipway check` has looked at."""

from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What was looked at, and how it is."""

    subject: str
    state: Literal["ok", "warning", "error"]
    message: str

    def as_dict(self) -> dict[str, str]:
        """Return it as JSON."""
        return asdict(self)
