# The components with TensorFlow's CUDA libraries. Not built by our CI: it needs no GPU to build, but
# 9 GB and NVIDIA's packages.
# From the root of the checkout: docker build -f docker/components-gpu.Dockerfile -t slipway-components-gpu:1 .
ARG COMPONENTS=slipway-components:1

FROM ${COMPONENTS} AS build
USER root
COPY requirements/lock.txt /build/lock.txt
RUN python -m pip install --no-cache-dir --target /opt/uv "uv==$(sed -n 's/^uv==//p' /build/lock.txt)" \
 && /opt/uv/bin/uv pip install --quiet --compile-bytecode --python /opt/slipway/bin/python \
      --constraint /build/lock.txt "tensorflow[and-cuda]==$(sed -n 's/^tensorflow==//p' /build/lock.txt)"

FROM ${COMPONENTS}
COPY --from=build /opt/slipway /opt/slipway

ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
