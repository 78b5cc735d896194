# One static binary and nothing else: no shell, no package, no user database. The roots that it trusts are in it.
#
#     make image                          for this machine, with docker, podman or buildah
#     make image arch=arm64               for another one
#     make image base=local               without any registry: the base is made here, by debootstrap
#
# Bases are arguments, so that a mirror or a digest can be put in their place. So is the C library that is linked in: musl,
# or gnu where the Rust toolchain has no musl. glibc's resolver works in a static program for /etc/hosts and DNS, which is
# all that a node asks of it; modules of nsswitch.conf (LDAP, mDNS) are not to be had then.
ARG RUST_IMAGE=rust:1.95-bookworm

FROM ${RUST_IMAGE} AS build
ARG TARGETARCH=amd64
ARG LIBC=musl
# Seconds since 1970: the time of every file.
ARG SOURCE_DATE_EPOCH=0
# The cryptography (aws-lc, OpenSSL) is C and assembler.
RUN set -eu; \
    case "$TARGETARCH-$LIBC" in \
        amd64-musl) packages="musl-tools" ;; \
        amd64-gnu) packages="libc6-dev" ;; \
        arm64-*) packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;; \
        *) echo "no such target: $TARGETARCH with $LIBC" >&2; exit 1 ;; \
    esac; \
    apt-get update -qq; \
    apt-get install -qq --yes --no-install-recommends ca-certificates gcc make perl cmake $packages >/dev/null; \
    rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Paths of this machine have no place in a binary: the same source gives the same bytes. OpenSSL has the time of its build
# in it, here the same for every commit, or cargo would build it and more anew.
RUN set -eu; \
    case "$TARGETARCH" in \
        amd64) target=x86_64-unknown-linux-$LIBC ;; \
        arm64) target=aarch64-unknown-linux-$LIBC ;; \
    esac; \
    case "$TARGETARCH-$LIBC" in \
        amd64-musl) export CC_x86_64_unknown_linux_musl=musl-gcc ;; \
        arm64-musl) export CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc \
            CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld ;; \
        arm64-gnu) export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc ;; \
    esac; \
    if [ ! -d "$(rustc --print target-libdir --target "$target")" ]; then rustup target add "$target"; fi; \
    home=${CARGO_HOME:-$HOME/.cargo}; \
    epoch=$SOURCE_DATE_EPOCH; \
    export SOURCE_DATE_EPOCH=0 CARGO_INCREMENTAL=0 \
        CFLAGS="-ffile-prefix-map=/src=. -ffile-prefix-map=$home=cargo" \
        RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=/src=. --remap-path-prefix=$home=cargo"; \
    cargo build --release --locked --package alinas-csi --bin alinas-csi --target "$target"; \
    mkdir -p /out/usr/share/sbom; \
    install "${CARGO_TARGET_DIR:-target}/$target/release/alinas-csi" /out/alinas-csi; \
    packaging/sbom "$target" >/out/usr/share/sbom/alinas-csi.cdx.json; \
    find /out -exec touch --no-dereference --date "@$epoch" {} +

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="alinas-csi" \
      org.opencontainers.image.description="CSI driver that mounts Alibaba Cloud NAS with encryption in transit" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/ /
# The controller's user. The containers of a node say themselves that they are root's, and why.
USER 65532:65532
ENTRYPOINT ["/alinas-csi"]
