#!/bin/sh
# cargo's RUSTC_WORKSPACE_WRAPPER for scripts/fuzz.sh: compiles this workspace's crates so that libFuzzer sees which
# branches an input takes. Dependencies are compiled as ever, and so shared with every other build of the target folder.
# What cargo-fuzz passes is the same, but for all crates and, where the compiler can, with a sanitizer.
set -eu
case " $* " in
# What runs at build time has no libFuzzer in it, and questions to the compiler need no instrumentation.
*" --crate-name build_script_build "* | *" --crate-type proc-macro "* | *" -vV "* | *" --crate-name ___ "*) exec "$@" ;;
esac
exec "$@" --cfg fuzzing -Copt-level=1 -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
