# One static binary and nothing else: no shell, no package, no user database.
#
#     make image                                              for this machine
#     docker build --build-arg TARGETARCH=arm64 …             for another one
#
# Bases are arguments, so that a mirror or a digest can be put in their place.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG VERSION=0.1.0

FROM --platform=${BUILDPLATFORM:-linux/amd64} ${RUST_IMAGE} AS build
ARG TARGETARCH=amd64
# The cryptography (aws-lc, OpenSSL) is C and assembler; musl-tools and the cross compiler build it.
RUN apt-get update -qq && apt-get install -qq --yes --no-install-recommends \
        cmake musl-tools gcc-aarch64-linux-gnu libc6-dev-arm64-cross \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN set -eu; \
    case "$TARGETARCH" in \
        amd64) target=x86_64-unknown-linux-musl; export CC_x86_64_unknown_linux_musl=musl-gcc ;; \
        arm64) target=aarch64-unknown-linux-musl; \
            export CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc \
                CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld ;; \
        *) echo "no such target: $TARGETARCH" >&2; exit 1 ;; \
    esac; \
    rustup target add "$target"; \
    cargo build --release --locked --package alinas-csi --bin alinas-csi --target "$target"; \
    install -D "target/$target/release/alinas-csi" /out/alinas-csi

FROM scratch
ARG VERSION
LABEL org.opencontainers.image.title="alinas-csi" \
      org.opencontainers.image.description="CSI driver that mounts Alibaba Cloud NAS with encryption in transit" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /out/alinas-csi /alinas-csi
ENTRYPOINT ["/alinas-csi"]
