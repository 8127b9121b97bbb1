#!/bin/sh
# Brings ONNX's own test cases of single nodes into `.conformance/`, where the tests of host/sandbox look for them. They
# are files in the wheel of `onnx`, which is used as a plain archive: always the same wheel, as it has the same cases for
# every machine. Run again at any time: what is in place is left alone.
#
#   .conformance/node/CASE/   model.onnx, test_data_set_0/*.pb
#   .conformance/LICENSE      onnx's (Apache-2.0)
set -eu

ONNX=1.20.0

cd "$(dirname "$0")/.."
. scripts/lib.sh
cases=.conformance

if [ "$(cat "$cases/VERSION" 2>/dev/null)" = "$ONNX" ]; then
    say "the node cases of onnx $ONNX are in place"
    exit
fi
need_python "The cases come through it."
say "bringing the node cases of onnx $ONNX"
work=$(mktemp -d "$PWD/$cases.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --implementation cp --python-version 3.11 --abi cp311 --platform manylinux_2_28_x86_64 \
    --dest "$work/wheel" "onnx==$ONNX" ||
    die "onnx $ONNX could not be fetched; pip's own words are above."
"$python" -m zipfile -e "$work"/wheel/*.whl "$work/unpacked"
mkdir "$work/kept"
mv "$work/unpacked/onnx/backend/test/data/node" "$work"/unpacked/*.dist-info/licenses/LICENSE "$work/kept/"
printf '%s\n' "$ONNX" >"$work/kept/VERSION"
# Renaming last: an interrupted run leaves no half-filled folder behind.
rm -rf "${cases:?}"
mv "$work/kept" "$cases"
