"""What callers of a model use, whatever the protocol."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from contract.errors import ConfigError, UserError, did_you_mean
from contract.model_io import DEFAULT_SIGNATURE
from slipway.client.columns import Array, column_of
from slipway.client.target import Connecting, Prediction, Signature, Target, Transport

__all__ = ["Client", "Connecting", "Prediction"]

PATIENT = Connecting()

_SCHEMES = ("http", "https", "grpc", "grpcs", "unix")


class Client:
    """Asks one model. It may be used from several threads, and as a context manager."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        version: int | None = None,
        token: str = "",
        connecting: Connecting = PATIENT,
    ) -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            url: `http://HOST:PORT` or `https://` for REST, `grpc://` or `grpcs://` (TLS) for gRPC,
                `unix:PATH` for gRPC at a Unix socket.
            model: The pipeline's name.
            version: Version to ask; None: the one that answers there.
            token: Sent as bearer token.
            connecting: How long an answer may take, and which certificates are trusted.

        Raises:
            ConfigError: If the URL is of another kind.
        """
        target = Target(url.rstrip("/"), model, version, token, connecting)
        self._transport = _transport(target)
        self._signatures: Mapping[str, Signature] | None = None

    def predict(
        self,
        inputs: Mapping[str, Any],
        *,
        signature: str = DEFAULT_SIGNATURE,
        outputs: Sequence[str] = (),
    ) -> Prediction:
        """Return what the model answers.

        Args:
            inputs: By name an array or list, one entry a row; it becomes the type that the model
                takes. Rows of an input of variable length may be lists of different length.
            signature: Which entry point of the model.
            outputs: Which outputs; none: all.

        Raises:
            UserError: If the model refuses the rows, or an input, output or signature is unknown.
            NotFoundError: If there is no such model or version.
            ServiceUnavailableError: If there is no answer.
        """
        known = self._known(signature)
        columns = {name: _column(known, name, value) for name, value in inputs.items()}
        for name in outputs:
            if name not in known.outputs:
                raise UserError(f"outputs: unknown output '{name}'{_hint(name, known.outputs)}")
        return self._transport.predict(signature, known, columns, tuple(outputs))

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _known(self, signature: str) -> Signature:
        """Return a signature's inputs and outputs; the server is asked once."""
        if self._signatures is None:
            self._signatures = self._transport.signatures()
        if signature not in self._signatures:
            hint = _hint(signature, self._signatures)
            raise UserError(f"signature: unknown signature '{signature}'{hint}")
        return self._signatures[signature]


def _transport(target: Target) -> Transport:
    scheme = target.url.partition(":")[0]
    if scheme not in _SCHEMES:
        raise ConfigError([f"{target.url}: expected one of {', '.join(_SCHEMES)} in front"])
    if scheme.startswith("http"):
        from slipway.client.rest import RestTransport

        return RestTransport(target)
    from slipway.client.over_grpc import GrpcTransport

    return GrpcTransport(target)


def _column(known: Signature, name: str, value: Any) -> Array:
    if name not in known.inputs:
        raise UserError(f"inputs: unknown input '{name}'{_hint(name, known.inputs)}")
    try:
        return column_of(value, known.inputs[name])
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"inputs.{name}: not {known.inputs[name].dtype}: {error}") from error


def _hint(name: str, known: Mapping[str, Any]) -> str:
    return did_you_mean(name, known) or f"; expected {', '.join(map(repr, known))}"
