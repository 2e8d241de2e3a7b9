# The image of the operator and of all pods that it starts: the binary, on a base without a shell. It needs no writable
# file and no user but the one below.
#
#   docker build -t tidemark .
#
# The base images are arguments, for mirrors. A binary that is already built goes in with `--build-context build=DIR`, where
# DIR/out is what the first stage puts into /out; then that stage does not run.
ARG BUILD_IMAGE=docker.io/library/rust:1.91-trixie
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian13:nonroot

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
ENV CARGO_PROFILE_RELEASE_STRIP=debuginfo
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin tidemark && install -D target/release/tidemark /out/tidemark

FROM ${RUNTIME_IMAGE}
LABEL org.opencontainers.image.title="Tidemark"
LABEL org.opencontainers.image.description="Backups, binlog streaming and point-in-time restores with proof, for MySQL and MariaDB"
LABEL org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/ /usr/local/bin/
WORKDIR /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/tidemark"]
