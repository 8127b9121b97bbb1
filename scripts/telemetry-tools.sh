#!/bin/sh
# Brings what the tests of telemetry talk to into `.tools/`: the OpenTelemetry collector rotel (through Python's pip; its
# wheel is used as a plain archive). Run again at any time: what is in place is left alone. (promtool, which they use as
# well, comes with scripts/k8s-tools.sh.)
#
#   .tools/rotel/       rotel-agent, LICENSE
set -eu

ROTEL=0.0.1a15

cd "$(dirname "$0")/.."
. scripts/lib.sh
tools=.tools
mkdir -p "$tools"

bring_rotel() {
    if [ "$(cat "$tools/rotel/VERSION" 2>/dev/null)" = "$ROTEL" ]; then
        say "rotel $ROTEL is in place"
        return
    fi
    need_python "The collector comes through it."
    say "bringing rotel $ROTEL"
    work=$(mktemp -d "$tools/rotel.XXXXXX")
    trap 'rm -rf "$work"' EXIT INT TERM
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --dest "$work/wheel" "rotel==$ROTEL" ||
        die "rotel $ROTEL could not be fetched; pip's own words are above." \
            "It has no source package: there must be a wheel for this machine and this version of Python."
    "$python" -m zipfile -e "$work"/wheel/*.whl "$work/unpacked"
    mkdir "$work/kept"
    cp "$work/unpacked/rotel/rotel-agent" "$work"/unpacked/*.dist-info/licenses/LICENSE "$work/kept/"
    chmod +x "$work/kept/rotel-agent"
    printf '%s\n' "$ROTEL" >"$work/kept/VERSION"
    # Renaming last: an interrupted run leaves no half-filled folder behind.
    rm -rf "${tools:?}/rotel"
    mv "$work/kept" "$tools/rotel"
    rm -rf "$work"
    trap - EXIT INT TERM
}

bring_rotel
