# The components with TensorFlow's CUDA libraries. Not built by our CI: it needs no GPU to build, but
# 9 GB and NVIDIA's packages.
# From the root of the checkout: docker build -f docker/components-gpu.Dockerfile -t slipway-components-gpu:1 .
ARG COMPONENTS=slipway-components:1

FROM ${COMPONENTS} AS build
USER root
COPY requirements/lock.txt /build/lock.txt
# What lock.txt names is checked by its hashes; NVIDIA's packages are not in it.
RUN awk '/^[^ ]/ { is_uv = /^uv==/ } is_uv' /build/lock.txt > /build/uv.txt \
 && python -m pip install --no-cache-dir --target /opt/uv --require-hashes --requirement /build/uv.txt \
 && /opt/uv/bin/uv pip install --quiet --compile-bytecode --python /opt/slipway/bin/python \
      --constraint /build/lock.txt "tensorflow[and-cuda]==$(sed -n 's/^tensorflow==\([^ ]*\).*/\1/p' /build/lock.txt)"

FROM ${COMPONENTS}
COPY --from=build /opt/slipway /opt/slipway
# A commit: --build-arg REVISION=$(git rev-parse HEAD)
ARG REVISION
LABEL org.opencontainers.image.revision=${REVISION}
USER root
RUN python -m contract.bill_of_materials slipway-components-gpu ${REVISION} > /opt/slipway/sbom.cdx.json
USER 10001:10001

ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
