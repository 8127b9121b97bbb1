#!/bin/sh
# Installs what the tests need and runs them all: the README's second command.
# It installs: the Rust target wasm32-wasip2, and, into .runtimes/, ONNX Runtime and OpenVINO (through Python's pip).
# Arguments go to `cargo test`.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

need_toolchain
say "bringing the native runtimes that the tests compare"
scripts/runtimes.sh
say "building the handlers that the tests upload"
scripts/handlers.sh
say "running the tests"
# From here on a runtime that is missing fails its tests.
AEGIS_REQUIRE_RUNTIMES=1 cargo test --workspace --locked "$@"
