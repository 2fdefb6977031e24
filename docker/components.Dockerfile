# The components on CPU: TensorFlow, tf.Transform, Beam, MLflow. No Airflow, no Kubernetes client.
# From the root of the checkout: docker build -f docker/components.Dockerfile -t slipway-components:1 .
# A registry's digest fixes the base permanently: `make pin` writes it here.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG EXTRAS="--extra components --extra serving --extra postgres"
ENV UV_SYSTEM_CERTS=1 UV_LINK_MODE=copy UV_NO_CACHE=1
WORKDIR /build
COPY requirements/lock.txt pyproject.toml ./
RUN python -m venv /opt/slipway \
 && awk '/^[^ ]/ { is_uv = /^uv==/ } is_uv' lock.txt > uv.txt \
 && python -m pip install --no-cache-dir --target /opt/uv --require-hashes --requirement uv.txt
# lock.txt pins every version and its hashes; the extras choose which of them this image needs (and `engines` adds
# OpenVINO and LiteRT to the optimiser's). What only compilers and test runners read is left out.
RUN /opt/uv/bin/uv pip install --quiet --compile-bytecode --python /opt/slipway/bin/python \
      --require-hashes --constraint lock.txt -r pyproject.toml ${EXTRAS} \
 && cd /opt/slipway/lib/python3.11/site-packages \
 && rm -rf tensorflow/include pandas/tests scipy/*/tests sklearn/*/tests pyarrow/tests pyarrow/include

FROM ${BASE} AS components
RUN groupadd --gid 10001 slipway && useradd --uid 10001 --gid 10001 --no-create-home slipway
COPY --from=build /opt/slipway /opt/slipway
WORKDIR /opt/project
COPY contract ./contract
COPY configs ./configs
COPY components ./components
COPY serving ./serving
COPY requirements ./requirements
# The root may be read-only: what is written goes to /tmp and to the mounted storage.
ENV PATH=/opt/slipway/bin:$PATH PYTHONPATH=/opt/project PYTHONUNBUFFERED=1 HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=2 MPLCONFIGDIR=/tmp
# A commit: --build-arg REVISION=$(git rev-parse HEAD)
ARG REVISION
LABEL org.opencontainers.image.revision=${REVISION}
RUN python -m contract.bill_of_materials slipway-components ${REVISION} > /opt/slipway/sbom.cdx.json
USER 10001:10001
ENTRYPOINT []
CMD ["python", "-m", "components.train", "--help"]

# With Airflow's side too: one image for the single-machine form, see compose.yaml.
FROM components AS local
COPY launching ./launching
COPY operators ./operators
COPY dags ./dags
COPY cli ./cli
# A new volume that is mounted here belongs to whoever owns the folder in the image.
USER root
RUN install -d -o slipway -g slipway /state
USER 10001:10001

FROM components
