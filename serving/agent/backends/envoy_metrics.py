"""What Envoys of this machine count, for Prometheus, which reads no Unix sockets."""

from collections.abc import Mapping

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST

from contract.errors import ServiceUnavailableError
from serving.traffic.envoy.admin import EnvoyAdmin

METRICS = "/metrics/envoys"
_EVERYTHING = ""


def envoy_metrics(admins: Mapping[str, EnvoyAdmin]) -> FastAPI:
    """Return the app; it is mounted at `/metrics/envoys` and answers for each Envoy by its name."""
    app = FastAPI(title="Envoys' metrics", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/{name}")
    def metrics(name: str) -> Response:
        if name not in admins:
            return Response(f"no such Envoy here; known: {', '.join(admins)}", status_code=404)
        try:
            return Response(admins[name].prometheus(_EVERYTHING), media_type=CONTENT_TYPE_LATEST)
        except ServiceUnavailableError as error:
            return Response(str(error), status_code=503)

    return app
