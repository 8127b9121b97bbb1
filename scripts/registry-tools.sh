#!/bin/sh
# Brings what the tests of the registry talk to into `.tools/`, each an environment of its own by Python's pip:
#
#   .tools/moto/            moto's S3, which keeps the conditions of puts (If-Match, If-None-Match) as S3 does
#   .tools/model-signing/   OpenSSF's model_signing, which signs and verifies packages
#   haproxy                 Debian's package, by apt, where it is not on the PATH already
#
# Run again at any time: what is in place is left alone.
set -eu

# moto's own list of what its server needs (`moto[server]`) is that of all services; S3's is a third of it.
MOTO="moto[s3]==5.2.5 flask==3.1.3 flask-cors==6.0.5"
# pyopenssl: 1.1.1 imports it and does not ask for it.
MODEL_SIGNING="model-signing==1.1.1 pyopenssl==26.4.0"

cd "$(dirname "$0")/.."
. scripts/lib.sh
root="$PWD/.tools"
mkdir -p "$root"

# bring FOLDER PACKAGES: the folder is made of these, in these versions.
bring() {
    if [ "$(cat "$root/$1/PACKAGES" 2>/dev/null)" = "$2" ]; then
        say "$1 is in place"
        return
    fi
    need_python "moto and model-signing come through it."
    say "bringing $2 into .tools/$1"
    rm -rf "${root:?}/$1"
    "$python" -m venv "$root/$1" ||
        die "no virtual environment could be made." "Debian, Ubuntu: apt install python3-venv"
    # shellcheck disable=SC2086 # a list
    "$root/$1/bin/python" -m pip install --quiet --disable-pip-version-check $2 ||
        die "$2 could not be installed; pip's own words are above."
    # Last: an interrupted run is begun anew.
    printf '%s\n' "$2" >"$root/$1/PACKAGES"
}

bring moto "$MOTO"
bring model-signing "$MODEL_SIGNING"

# It balances a fleet in the tests.
need_debian haproxy haproxy 2.6
