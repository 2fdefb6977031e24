"""The settings of a model that no pipeline made; a pipeline's are in `pipeline.yaml`."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from contract.schema.data import HeadConfig
from contract.schema.pipeline import RetentionConfig
from contract.schema.section import Seconds, Section
from contract.schema.serving import DeployConfig, PackageConfig, ServeConfig


class ImportedServeConfig(Section):
    """The server of an imported model; what is not here has no effect on it."""

    grpc: bool = Field(
        True, description="Whether its server speaks gRPC, too, on a second port, true or false."
    )
    max_body_mb: Annotated[float, Field(gt=0.0)] = Field(
        16.0, description="Largest body of a request in megabytes, above 0."
    )
    drain_seconds: Seconds = Field(
        20.0, description="Seconds that a server has to finish its requests on SIGTERM, above 0."
    )


class PackagingConfig(Section):
    """How an imported model is packaged: `slipway package --set`."""

    serve: ImportedServeConfig = Field(ImportedServeConfig(), description="Settings of its server.")
    package: PackageConfig = Field(PackageConfig(), description="The checks of the package.")

    @property
    def server(self) -> ServeConfig:
        """The same as a package keeps it. Such a server keeps no prediction log."""
        return ServeConfig(**self.serve.model_dump(), prediction_log_ratio=0.0)


class DeployingConfig(Section):
    """How an imported model is deployed: `slipway deploy --set`."""

    deploy: DeployConfig = Field(DeployConfig(), description="The canary and its judge.")
    retention: RetentionConfig = Field(RetentionConfig(), description="What is kept.")

    @property
    def serve(self) -> ServeConfig:
        """What of its server a deployment must know: that no answers are logged."""
        return ServeConfig(prediction_log_ratio=0.0)

    @property
    def heads(self) -> Mapping[str, HeadConfig]:
        """None: nobody has said what its outputs mean."""
        return {}
