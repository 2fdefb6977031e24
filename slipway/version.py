"""A packaged model, and what came of its deployment."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Version:
    """What `Run.deploy` returns. `outcome` is `promoted`, or why it is not: `rolled_back`, ..."""

    pipeline: str
    number: int
    outcome: str
    reasons: tuple[str, ...] = ()

    @property
    def is_promoted(self) -> bool:
        """Whether the deployment ended with all traffic on this version."""
        return self.outcome == "promoted"

    @property
    def url(self) -> str:
        """Where this version answers while it runs.

        Raises:
            ServiceUnavailableError: If no services are running.
        """
        from cli.requests.data_plane import predict_url
        from cli.stack.stack_file import require_stack

        return predict_url(require_stack(), self.pipeline, self.number)

    def predict(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """Ask this version, whichever has the traffic; see `Pipeline.predict`."""
        from slipway.predicting import predict

        return predict(self.pipeline, frame, self.number)
