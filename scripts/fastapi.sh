#!/bin/sh
# Brings what people serve networks with by hand, FastAPI, uvicorn and onnxruntime (about 60 MB, through Python's pip),
# into `.tools/fastapi`: `aegis-bench batching` measures Aegis beside it. bench/fastapi/requirements.txt pins the
# versions. Run again at any time: what is in place is left alone.
#
#   .tools/fastapi/     the packages, and `python`, the interpreter that they were chosen for
set -eu

cd "$(dirname "$0")/.."
. scripts/lib.sh
tools=.tools
wanted=bench/fastapi/requirements.txt
onnxruntime=$(sed -n 's/^ONNXRUNTIME=//p' scripts/runtimes.sh)
[ -n "$onnxruntime" ] || die "scripts/runtimes.sh does not say which ONNX Runtime there is (ONNXRUNTIME=…)."

need_python "FastAPI and onnxruntime come through it, and run on it."
interpreter=$("$python" -c 'import sys; print(sys.executable)')
version="onnxruntime==$onnxruntime $interpreter $("$python" -V) $(cksum <"$wanted")"
if [ "$(cat "$tools/fastapi/VERSION" 2>/dev/null)" = "$version" ]; then
    say "FastAPI and onnxruntime $onnxruntime are in place"
    exit
fi
say "bringing FastAPI and onnxruntime $onnxruntime (60 MB)"
mkdir -p "$tools"
work=$(mktemp -d "$tools/fastapi.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
"$python" -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-warn-conflicts \
    --only-binary :all: --target "$work/kept" --requirement "$wanted" "onnxruntime==$onnxruntime" ||
    die "FastAPI and onnxruntime could not be fetched; pip's own words are above." \
        "Is the network there, or a mirror that pip knows of (PIP_INDEX_URL)? Is there a wheel of each version that" \
        "$wanted names for $("$python" -V)? Nothing was changed."
ln -s "$interpreter" "$work/kept/python"
printf '%s\n' "$version" >"$work/kept/VERSION"
# Renaming last: an interrupted run leaves no half-filled folder behind.
rm -rf "${tools:?}/fastapi"
mv "$work/kept" "$tools/fastapi"
