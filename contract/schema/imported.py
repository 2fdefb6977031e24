"""The settings of a model that no pipeline made; a pipeline's are in `pipeline.yaml`."""

from collections.abc import Mapping

from pydantic import Field

from contract.schema.data import HeadConfig
from contract.schema.pipeline import RetentionConfig
from contract.schema.section import Section
from contract.schema.serving import CommonServeConfig, DeployConfig, PackageConfig, ServeConfig


class ImportedServeConfig(CommonServeConfig):
    """The server of an imported model; what is not here has no effect on it."""

    grpc: bool = Field(
        True, description="Whether its server speaks gRPC, too, on a second port, true or false."
    )
    enable_batching: bool = Field(
        False,
        description="Whether requests share calls of the model, true or false. Each of its outputs "
        "must then have a row for each row of its inputs.",
    )


class PackagingConfig(Section):
    """How an imported model is packaged: `slipway package --set`."""

    serve: ImportedServeConfig = Field(ImportedServeConfig(), description="Settings of its server.")
    package: PackageConfig = Field(PackageConfig(), description="The checks of the package.")

    @property
    def server(self) -> ServeConfig:
        """The same as a package keeps it."""
        return ServeConfig(**self.serve.model_dump())


class DeployingConfig(Section):
    """How an imported model is deployed: `slipway deploy --set`."""

    deploy: DeployConfig = Field(DeployConfig(), description="The canary and its judge.")
    retention: RetentionConfig = Field(RetentionConfig(), description="What is kept.")

    @property
    def serve(self) -> ServeConfig:
        """What of its server a deployment must know: that no answers can be compared."""
        return ServeConfig(prediction_log_ratio=0.0)

    @property
    def heads(self) -> Mapping[str, HeadConfig]:
        """None: nobody has said what its outputs mean."""
        return {}
