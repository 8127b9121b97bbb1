#!/bin/sh
# Builds Aegis with optimisation and measures what its sandbox costs; bench/README.md says what
# each row means. Arguments go to the benchmark: --quick, --only digits, density, neighbours, telemetry.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

need_toolchain
scripts/runtimes.sh >&2
scripts/handlers.sh >&2
cargo build --release --locked -p aegis -p aegis-bench
# Errors made on the way capture backtraces when this is set.
unset RUST_BACKTRACE
exec target/release/aegis-bench "$@"
