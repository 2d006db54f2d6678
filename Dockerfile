# docker build -t outbox-relay .
# docker run --ulimit core=0 --volume ./relay.toml:/etc/outbox-relay/relay.toml:ro outbox-relay
# (A core dump would hold rows and passwords; the unit in systemd/ has LimitCORE=0 for it.)
#
# The builder's compiler is the one of rust-toolchain.toml, and both stages are of one Debian release: the program is
# linked to its OpenSSL (for Kafka) and zlib.
ARG BUILDER=rust:1.95.0-bookworm
ARG BASE=debian:bookworm-slim

FROM ${BUILDER} AS builder
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        cmake g++ libcurl4-openssl-dev libssl-dev make pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin outbox-relay

FROM ${BASE}
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/*
COPY --from=builder /src/target/release/outbox-relay /usr/bin/outbox-relay
# By number: Kubernetes can tell from it that this is not root.
USER 65532:65532
# If the configuration says so: [http] listen = "0.0.0.0:9464". No HEALTHCHECK: without that there is nothing to ask.
EXPOSE 9464
ENTRYPOINT ["/usr/bin/outbox-relay"]
CMD ["run", "--config", "/etc/outbox-relay/relay.toml"]
