#!/bin/sh
# Three replicas on one bucket behind a load balancer, and callers, while versions are uploaded, promoted, rolled out, rolled
# back and deleted, replicas are killed and restarted and the store is cut off: for ten minutes or as long as --minutes says,
# in the order that the seed of --seed decides, or one of the moment; a table at the end. Fails if a request failed or an
# answer was wrong. The same test as in CI, where it is short: host/aegis/tests/e2e/chaos.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

minutes=10
seed=$(date +%s)
while [ $# -gt 0 ]; do
    case $1 in
        --minutes)
            [ $# -ge 2 ] || die "--minutes takes a number"
            minutes=$2
            shift 2
            ;;
        --seed)
            [ $# -ge 2 ] || die "--seed takes a number"
            seed=$2
            shift 2
            ;;
        *) die "\`$1\` is not known; there are --seed N and --minutes N" ;;
    esac
done

need_toolchain
scripts/registry-tools.sh
scripts/handlers.sh guests
say "chaos for $minutes minutes, seed $seed"
AEGIS_CHAOS_MINUTES=$minutes AEGIS_CHAOS_SEED=$seed AEGIS_REQUIRE_TOOLS=1 cargo test --workspace --locked --test e2e -- \
    --exact chaos::a_fleet_loses_nothing_whatever_is_done_to_it --nocapture
