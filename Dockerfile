# One image for the operator (`storekeeper run`) and for the stores and their jobs (`store-runtime …`).
#
#   docker build --tag storekeeper .
#
# The base is any image with Python 3.11 or newer as `python3`. Where pip needs settings of its own to reach an index,
# give them as secrets, which stay out of the image: `pip.conf`, and the certificates that it may name under
# /run/secrets/ca-certificates. `make image` does this from the settings of the machine's own pip.
ARG BASE_IMAGE=python:3.13-slim


# What others wrote: a layer that changes only with the lock file. pip comes and goes within it. Bytecode is compiled now,
# because the image is run on a file system that cannot be written to. What is removed are headers, tests and type stubs,
# and the asynchronous Kubernetes client, which is a tenth of the whole; we use the other one.
FROM ${BASE_IMAGE} AS dependencies
COPY requirements.lock /opt/storekeeper/
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca-certificates \
    export PIP_CONFIG_FILE=/run/secrets/pip.conf PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    && python3 -m venv /tmp/pip \
    && python3 -m venv --without-pip /opt/storekeeper \
    && /tmp/pip/bin/pip --python /opt/storekeeper/bin/python install --compile \
        --only-binary :all: --require-hashes --requirement /opt/storekeeper/requirements.lock \
    && rm -rf /tmp/pip \
    && cd /opt/storekeeper/lib/python3.*/site-packages \
    && rm -rf pyarrow/include pyarrow/includes pyarrow/src pyarrow/tests kubernetes/aio \
    && find . -name '*.pyi' -delete


# What we wrote. Installed under /project, so that these files alone become a layer.
FROM ${BASE_IMAGE} AS project
WORKDIR /build
COPY requirements-build.lock ./
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca-certificates \
    export PIP_CONFIG_FILE=/run/secrets/pip.conf PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    && python3 -m venv /opt/pip \
    && python3 -m venv --without-pip /opt/storekeeper \
    && /opt/pip/bin/pip install --only-binary :all: --require-hashes --requirement requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY operator ./operator
COPY store_runtime ./store_runtime
RUN /opt/pip/bin/pip wheel --no-build-isolation --no-deps --no-index --wheel-dir dist . \
    && /opt/pip/bin/pip --python /opt/storekeeper/bin/python install \
        --compile --no-deps --no-index --no-warn-script-location --root /project dist/*.whl


FROM dependencies
ENV PATH=/opt/storekeeper/bin:$PATH PYTHONUNBUFFERED=1
# Nobody in particular: a number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8080 9090
CMD ["store-runtime", "--help"]
COPY --from=project /project/opt/storekeeper /opt/storekeeper
