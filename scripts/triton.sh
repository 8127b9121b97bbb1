#!/bin/sh
# Brings Triton Inference Server (55 MB, from PyPI's nvidia-pytriton) into `.tools/triton`: `aegis-bench batching` measures
# Aegis beside it, with the backend of bench/triton, as Triton's own for ONNX Runtime is in no package. For x86-64 Linux
# with glibc 2.35 or newer. Run again at any time: what is in place is left alone.
#
#   .tools/triton/bin/tritonserver     the server; what it links to is beside it
set -eu

cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/fetch.sh
PYTRITON=0.7.0
DIGEST=21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df
triton=.tools/triton

if [ "$(cat "$triton/VERSION" 2>/dev/null)" = "$DIGEST" ]; then
    say "Triton (nvidia-pytriton $PYTRITON) is in place"
    exit
fi
need_python "Triton comes through it."
say "bringing Triton (nvidia-pytriton $PYTRITON, 55 MB)"
work_beside "$triton"
unpack_wheel "nvidia-pytriton==$PYTRITON" "$DIGEST"
# The program looks for what it links to at ../../../nvidia_pytriton.libs from where it is.
mkdir -p "$work/kept/pytriton/tritonserver"
mv "$work/unpacked/pytriton/tritonserver/bin" "$work/kept/pytriton/tritonserver/bin"
mv "$work/unpacked/nvidia_pytriton.libs" "$work/kept/nvidia_pytriton.libs"
chmod +x "$work/kept/pytriton/tritonserver/bin/tritonserver"
ln -s pytriton/tritonserver/bin "$work/kept/bin"
# It ends with 1 however its help is asked for.
"$work/kept/bin/tritonserver" --help 2>&1 | grep -q '^Usage' ||
    die "Triton does not start on this machine." \
        "It is built for x86-64 Linux with glibc 2.35 or newer. Nothing was changed."
printf '%s\n' "$DIGEST" >"$work/kept/VERSION"
keep "$triton"
