# A plain TensorFlow package behind TensorFlow Serving itself. Not built by our CI: its base image
# comes from a registry.
# From a package's folder: docker build -f .../docker/serving-tensorflow.Dockerfile --build-arg NAME=digits --build-arg VERSION=1 .
ARG BASE=tensorflow/serving:2.19.1
FROM ${BASE}
ARG NAME
ARG VERSION
COPY model /models/${NAME}/${VERSION}
ENV MODEL_NAME=${NAME}
USER 10001:10001
