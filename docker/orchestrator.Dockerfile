# Airflow with our operators and DAGs; no TensorFlow: components run elsewhere.
# From the root of the checkout: docker build -f docker/orchestrator.Dockerfile -t slipway-orchestrator:1 .
# A registry's digest fixes the base permanently: `make pin` writes it here.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ENV UV_SYSTEM_CERTS=1 UV_LINK_MODE=copy UV_NO_CACHE=1
WORKDIR /build
COPY requirements/lock.txt pyproject.toml ./
RUN python -m venv /opt/slipway \
 && awk '/^[^ ]/ { is_uv = /^uv==/ } is_uv' lock.txt > uv.txt \
 && python -m pip install --no-cache-dir --target /opt/uv --require-hashes --requirement uv.txt
# lock.txt pins every version and its hashes; the extras choose which of them this image needs.
RUN /opt/uv/bin/uv pip install --quiet --compile-bytecode --python /opt/slipway/bin/python \
      --require-hashes --constraint lock.txt -r pyproject.toml --extra airflow --extra postgres

FROM ${BASE}
RUN groupadd --gid 10001 slipway && useradd --uid 10001 --gid 10001 --no-create-home slipway
COPY --from=build /opt/slipway /opt/slipway
WORKDIR /opt/project
COPY contract ./contract
COPY configs ./configs
COPY launching ./launching
COPY operators ./operators
COPY dags ./dags
COPY requirements ./requirements
ENV PATH=/opt/slipway/bin:$PATH PYTHONPATH=/opt/project PYTHONUNBUFFERED=1 HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 AIRFLOW_HOME=/airflow AIRFLOW__CORE__DAGS_FOLDER=/opt/project/dags \
    AIRFLOW__CORE__LOAD_EXAMPLES=False SLIPWAY_RUNTIME=kubernetes SLIPWAY_HOME=/airflow/slipway
# A commit: --build-arg REVISION=$(git rev-parse HEAD)
ARG REVISION
LABEL org.opencontainers.image.revision=${REVISION}
RUN python -m contract.bill_of_materials slipway-orchestrator ${REVISION} > /opt/slipway/sbom.cdx.json
VOLUME /airflow
USER 10001:10001
CMD ["airflow", "version"]
