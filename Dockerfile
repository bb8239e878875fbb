# syntax=docker/dockerfile:1
# likeness-server and the likeness command on Debian 13, from the distribution's packages; the trainer is in the same image.
#
#   docker build -t likeness .
#   docker build -t likeness:cuda --build-arg LK_CUDA=ON \
#       --build-arg BUILD_IMAGE=nvidia/cuda:12.6.3-cudnn-devel-ubuntu24.04 \
#       --build-arg RUN_IMAGE=nvidia/cuda:12.6.3-cudnn-runtime-ubuntu24.04 .
#
# FAISS is built for the processor that builds: with AVX2 where it has it (scripts/install-deps).
ARG BUILD_IMAGE=debian:trixie
ARG RUN_IMAGE=debian:trixie-slim

FROM ${BUILD_IMAGE} AS build
ENV LIKENESS_CACHE=/opt/likeness-deps DEBIAN_FRONTEND=noninteractive
WORKDIR /src
COPY scripts/install-deps scripts/install-deps
RUN scripts/install-deps
COPY . .
ARG LK_CUDA=OFF
RUN cmake -S . -B /build -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=/usr/local -DLK_TESTS=OFF \
        -DLK_CUDA=${LK_CUDA} \
    && cmake --build /build \
    && DESTDIR=/out cmake --install /build --strip \
    && scripts/runtime-files /out/usr/local/lib /out/usr/local/bin/* > /out/packages

FROM ${RUN_IMAGE}
RUN --mount=type=bind,from=build,source=/out/packages,target=/tmp/packages \
    apt-get update \
    && DEBIAN_FRONTEND=noninteractive xargs -a /tmp/packages apt-get install -y --no-install-recommends curl \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/usr/local/ /usr/local/
RUN ldconfig \
    && useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin likeness \
    && install -d -o likeness -g likeness /data
USER likeness
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
# The canary picture goes through the engine and comes back.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:8080/readyz"]
ENTRYPOINT ["likeness-server"]
# Others reach a container, so keys are needed (docs/operations.md).
CMD ["--listen", "0.0.0.0:8080", "--model", "/models/model.safetensors", "--catalogue", "/data/likeness.db", \
     "--keys", "/run/secrets/likeness-keys", "--log-format", "json"]
