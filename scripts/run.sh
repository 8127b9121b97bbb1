#!/bin/sh
# Builds Aegis and its two example models and serves them: the README's first command.
# Arguments go to `aegis serve`; so do AEGIS_… variables and, with --config, a file.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

need_toolchain
need_room 8
say "building the example handlers (digits, spam) for wasm32-wasip2"
scripts/handlers.sh examples
say "building the server (the first time takes some minutes)"
cargo build --release --locked -p aegis
if [ ! -d .runtimes ]; then
    say "no native runtimes in .runtimes: the embedded backend serves (make runtimes brings ONNX Runtime and OpenVINO)"
fi
say "starting; Ctrl-C stops it"
exec target/release/aegis serve --models models "$@"
