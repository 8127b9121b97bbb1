#!/bin/sh
# Fuzzes: each target runs over its committed corpus (fuzz/corpus) and then on inputs of its own making. What it finds
# goes to target/fuzz: new inputs to corpus/TARGET, what breaks a property to crashes/TARGET, the run to TARGET.log.
#
#     scripts/fuzz.sh [--seconds N] [TARGET…]
#
# It needs a C++ compiler (libFuzzer is C++) and no nightly Rust: this workspace's crates are compiled with coverage,
# dependencies are those of every other build. `cargo fuzz run TARGET` is the thorough way: everything with coverage
# and a sanitizer, on nightly.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

seconds=20
targets=
while [ $# -gt 0 ]; do
    case $1 in
    --seconds)
        seconds=${2:?--seconds wants a number}
        shift
        ;;
    -*) die "there is no option $1; usage: scripts/fuzz.sh [--seconds N] [TARGET…]" ;;
    *)
        [ -f "fuzz/fuzz_targets/$1.rs" ] || die "there is no target $1; there are:" "$(ls fuzz/corpus | xargs)"
        targets="$targets $1"
        ;;
    esac
    shift
done
[ -n "$targets" ] || targets=$(ls fuzz/corpus)

need_toolchain
command -v c++ >/dev/null 2>&1 || command -v g++ >/dev/null 2>&1 ||
    die "no C++ compiler was found; libFuzzer is built with one. The tests do without." \
        "Debian, Ubuntu: apt install build-essential.  Fedora: dnf install gcc-c++.  macOS: xcode-select --install"

# The longest input, in bytes: as much as a seed has that reaches every bound, and no more, as every byte more makes
# finding the one that matters slower. The properties' own bounds (bodies, budgets) are set low for that reason.
max_len() {
    case $1 in
    nn) echo 512 ;;
    request) echo 2048 ;;
    *) echo 4096 ;;
    esac
}

fuzz() {
    target=$1
    found=target/fuzz/corpus/$target
    crashes=target/fuzz/crashes/$target
    log=target/fuzz/$target.log
    mkdir -p "$found" "$crashes"
    set -- "-max_total_time=$seconds" "-max_len=$(max_len "$target")" "-artifact_prefix=$crashes/" -print_final_stats=1
    # An input takes a millisecond; one that takes ten seconds, on a machine however busy, hangs.
    set -- "$@" -timeout=10
    # Nothing here is given more than a few MiB to hold; a target at rest has up to 120 MiB resident.
    set -- "$@" -rss_limit_mb=1024
    dictionary=fuzz/dictionaries/$target.dict
    [ ! -f "$dictionary" ] || set -- "$@" "-dict=$dictionary"
    if nice -n 10 "target/debug/$target" "$@" "$found" "fuzz/corpus/$target" >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        say "$target: $runs inputs, nothing found"
        return 0
    fi
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    grep -A 3 -E "panicked at|ERROR: libFuzzer" "$log" >&2 || tail -n 20 "$log" >&2
    printf 'error: %s does not hold; the whole log is %s\n' "$target" "$log" >&2
    printf '       again:  target/debug/%s %s\n' "$target" "${input:-fuzz/corpus/$target/*}" >&2
    printf '       keep:   cp %s fuzz/corpus/%s/   (after the fix, so that it stays fixed)\n' "$input" "$target" >&2
    return 1
}

say "building the fuzz targets"
bins=
for target in $targets; do bins="$bins --bin $target"; done
# The workspace as a whole, so that dependencies have the features, and are the files, of its other builds.
# shellcheck disable=SC2086 # a list
RUSTC_WORKSPACE_WRAPPER="$PWD/scripts/sancov.sh" cargo build --locked --workspace $bins

say "fuzzing for $seconds seconds each, two at a time"
failed=
set -- $targets
while [ $# -gt 0 ]; do
    fuzz "$1" &
    one=$!
    other=
    if [ $# -gt 1 ]; then
        fuzz "$2" &
        other=$!
        shift
    fi
    shift
    wait "$one" || failed=1
    [ -z "$other" ] || wait "$other" || failed=1
done
[ -z "$failed" ] || exit 1
