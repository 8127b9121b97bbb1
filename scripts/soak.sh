#!/bin/sh
# A server under everything at once, for ten minutes or as long as --minutes says, and a table at the end: honest requests
# of several models that share runs, hostile handlers, callers that hang up, versions that are uploaded, swapped and
# deleted. Fails if an answer was wrong or lost, or if memory did not stay flat (within 5 % after a warm-up, which takes a
# tenth of that time at least). The same test as in CI, where it is short: host/aegis/tests/e2e/hostile/soak.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

minutes=10
while [ $# -gt 0 ]; do
    case $1 in
        --minutes)
            [ $# -ge 2 ] || die "--minutes takes a number"
            minutes=$2
            shift 2
            ;;
        *) die "\`$1\` is not known; there is --minutes N" ;;
    esac
done

need_toolchain
scripts/runtimes.sh
scripts/handlers.sh
say "a soak of $minutes minutes and its warm-up"
AEGIS_SOAK_MINUTES=$minutes AEGIS_REQUIRE_RUNTIMES=1 cargo test --workspace --locked --test e2e -- \
    --exact hostile::soak::under_everything_at_once_no_answer_is_wrong_or_lost_and_memory_stays_flat --nocapture
