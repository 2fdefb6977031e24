# Our model server: one package, TensorFlow Serving's API. Also the serving agent and Envoy.
# From the root of the checkout: docker build -f docker/serving.Dockerfile -t slipway-serving:1 .
# A registry's digest fixes the base permanently: `make pin` writes it here.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ENV UV_SYSTEM_CERTS=1 UV_LINK_MODE=copy UV_NO_CACHE=1
WORKDIR /build
COPY requirements/lock.txt pyproject.toml ./
RUN python -m venv /opt/slipway \
 && awk '/^[^ ]/ { is_uv = /^uv==/ } is_uv' lock.txt > uv.txt \
 && python -m pip install --no-cache-dir --target /opt/uv --require-hashes --requirement uv.txt
# lock.txt pins every version and its hashes; the extras choose which of them this image needs
RUN /opt/uv/bin/uv pip install --quiet --compile-bytecode --python /opt/slipway/bin/python \
      --require-hashes --constraint lock.txt -r pyproject.toml --extra serving --extra engines \
      --extra kubernetes

FROM ${BASE}
RUN groupadd --gid 10001 slipway && useradd --uid 10001 --gid 10001 --no-create-home slipway
COPY --from=build /opt/slipway /opt/slipway
WORKDIR /opt/project
COPY contract ./contract
COPY serving ./serving
ENV PATH=/opt/slipway/bin:$PATH PYTHONPATH=/opt/project PYTHONUNBUFFERED=1 HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=2
# A commit: --build-arg REVISION=$(git rev-parse HEAD)
ARG REVISION
LABEL org.opencontainers.image.revision=${REVISION}
RUN python -m contract.bill_of_materials slipway-serving ${REVISION} > /opt/slipway/sbom.cdx.json
USER 10001:10001
# Where they listen by default or in docker/: Envoy (REST), a model server, the serving agent.
EXPOSE 8500 8501 8600
CMD ["python", "-m", "serving.server", "--help"]
