#!/bin/sh
# Puts the model `vad` together in .models/vad: fetches Silero VAD (11 MB, through Python's pip), of which the network is
# 2.8, and builds the handler. Run again at any time: what is in place is left alone, what was fetched is held to its
# digest.
#
#   .models/vad/   model.toml, vad.wasm, silero.onnx, samples/, LICENSE
set -eu

PACKAGE=silero-vad==6.2.3
WHEEL=7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8
NETWORK=7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28

cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/fetch.sh
package=.models/vad
source=examples/vad

need_toolchain
need_python "The network is fetched through it."
if is_in_place "$package/silero.onnx" "$NETWORK"; then
    say "the network is in place"
else
    say "fetching $PACKAGE (11 MB)"
    work_beside "$package"
    unpack_wheel "$PACKAGE" "$WHEEL"
    mkdir "$work/kept"
    # Of its several forms the one that takes a batch of any size.
    cp "$work/unpacked/silero_vad/data/silero_vad_op18_ifless.onnx" "$work/kept/silero.onnx"
    must_be "$work/kept/silero.onnx" "$NETWORK" "The disk may be full."
    cp "$work"/unpacked/*.dist-info/licenses/LICENSE "$work/kept/"
    keep "$package"
fi
say "building the handler"
build_handler -p vad
finish_package "$source" "$package"
