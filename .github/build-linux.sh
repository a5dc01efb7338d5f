#!/bin/sh
# Builds the addon inside a container of an old system: `sh .github/build-linux.sh FILE`. The container is root's and is thrown away.
set -eu

if command -v apk >/dev/null; then
  apk add --no-cache build-base cmake curl perl
  # A shared library links musl dynamically.
  export RUSTFLAGS='-C target-feature=-crt-static'
else
  dnf install --assumeyes --quiet gcc gcc-c++ make cmake perl
fi

curl --proto '=https' --tlsv1.2 --silent --show-error --fail https://sh.rustup.rs | sh -s -- -y --quiet --profile minimal --default-toolchain 1.95
. "$HOME/.cargo/env"

CARGO_TARGET_DIR=/tmp/target cargo build --lib --locked --profile release --features mimalloc
cp /tmp/target/release/libsmartregistry_native.so "$1"
