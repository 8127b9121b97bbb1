#!/bin/sh
# Builds the handlers: those of the example models into their packages, those of the tests
# into target/guests. `handlers.sh examples` or `handlers.sh guests` builds one half.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
what=${1:-all}
case $what in
    all | examples | guests) ;;
    *)
        echo "handlers.sh: \`$what\` is neither examples nor guests" >&2
        exit 2
        ;;
esac

if [ "$what" != guests ]; then
    build_handler -p digits -p spam
    for name in digits spam; do
        place "$built/$name.wasm" "models/$name/$name.wasm"
    done
fi

if [ "$what" != examples ]; then
    build_handler -p hostile-guests --examples
    for guest in tests/guests/examples/*.rs; do
        name=$(basename "$guest" .rs)
        place "$built/examples/$name.wasm" "target/guests/$name.wasm"
    done
fi
