#!/bin/sh
# Builds the handlers: those of the example models into their packages, those of the tests
# into target/guests. `handlers.sh examples` or `handlers.sh guests` builds one half.
set -eu
cd "$(dirname "$0")/.."
what=${1:-all}
built=target/wasm32-wasip2/handler

build() {
    cargo build --quiet --target wasm32-wasip2 --profile handler "$@"
}

# Copies a component only if it changed, so that what depends on its date is not redone,
# and says its size.
place() {
    mkdir -p "$(dirname "$2")"
    cmp -s "$1" "$2" || cp "$1" "$2"
    printf '%8d bytes  %s\n' "$(wc -c <"$2")" "$2"
}

case $what in
    all | examples | guests) ;;
    *)
        echo "handlers.sh: \`$what\` is neither examples nor guests" >&2
        exit 2
        ;;
esac

if [ "$what" != guests ]; then
    build -p digits -p spam
    for name in digits spam; do
        place "$built/$name.wasm" "models/$name/$name.wasm"
    done
fi

if [ "$what" != examples ]; then
    build -p hostile-guests --examples
    for guest in tests/guests/examples/*.rs; do
        name=$(basename "$guest" .rs)
        place "$built/examples/$name.wasm" "target/guests/$name.wasm"
    done
fi
