"""What `slipway check` has to say."""

from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    state: Literal["ok", "warning", "error"]
    message: str

    def as_dict(self) -> dict[str, str]:
        """Return it as JSON."""
        return asdict(self)
