"""Where Envoys elsewhere ask for their configuration: xDS, its REST form."""

import asyncio
import time

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError

from serving.agent.api import ask_for_token
from serving.traffic.envoy.discovery import HOLD_SECONDS, DiscoveryChannel, Question, kind_of

_LOOK_SECONDS = 0.02


def discovery_api(channel: DiscoveryChannel, token: str) -> FastAPI:
    """Return the app; it is mounted at `/v3`, where Envoy expects it."""
    app = FastAPI(title="Envoy discovery", docs_url=None, redoc_url=None, openapi_url=None)
    ask_for_token(app, token, "Envoys'")

    @app.post("/discovery:{name}")
    async def discover(name: str, request: Request) -> Response:
        kind = kind_of(name)
        if kind is None:
            return Response(f"no documents of kind '{name}' here", status_code=404)
        try:
            question = Question.model_validate_json(await request.body())
        except ValidationError as error:
            return Response(f"not a discovery request: {error}", status_code=400)
        until = time.monotonic() + HOLD_SECONDS
        while (text := channel.answer(kind, question)) is None:
            if time.monotonic() > until:
                return Response(status_code=304)
            await asyncio.sleep(_LOOK_SECONDS)
        return Response(text, media_type="application/json")

    return app
