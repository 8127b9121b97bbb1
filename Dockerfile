# The server in a container: small, not root, with the native runtimes.
#
#   docker build -t aegis:0.1.0 .                          with the example models, to see it run
#   docker build --target server -t aegis-server:0.1.0 .   without models: FROM it, COPY yours to /models
#
# The last stage has no shell tools beyond the base's, no compiler and no Python. k8s/ runs it with a read-only root.

FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# As archives: nothing of Python is in them. The versions are the script's.
RUN scripts/runtimes.sh
# Both in one step, as both fill the same target folder; the cache stays out of the image.
RUN --mount=type=cache,target=/src/target --mount=type=cache,target=/usr/local/cargo/registry \
    cargo build --profile dist --locked -p aegis \
    && scripts/handlers.sh examples \
    && install -D --strip target/dist/aegis /out/bin/aegis \
    && mkdir -p /out/models && cp -r models/digits models/spam /out/models/

FROM debian:bookworm-slim AS server
# libstdc++ is what ONNX Runtime and OpenVINO need beside libc.
RUN apt-get update && apt-get install -y --no-install-recommends libstdc++6 ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 65532 aegis \
    && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin aegis \
    && install -d -o 65532 -g 65532 /data && install -d /models
COPY --from=build /src/.runtimes /opt/aegis/runtimes
COPY --from=build /out/bin/aegis /usr/local/bin/aegis
# Management is off: it would ask for tokens (docs/access.md), and a container's port is reached from outside.
ENV AEGIS_LISTEN=0.0.0.0:8000 \
    AEGIS_MANAGEMENT=off \
    AEGIS_DATA=/data \
    AEGIS_MODELS=/models \
    AEGIS_RUNTIMES=/opt/aegis/runtimes
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
WORKDIR /data
EXPOSE 8000
# SIGTERM drains; the program is process 1 and takes it.
ENTRYPOINT ["aegis"]
CMD ["serve"]

FROM server AS aegis
COPY --from=build /out/models /models
