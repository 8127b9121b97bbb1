#!/bin/sh
# Draws docs/images/dashboard.svg, as Grafana cannot be had by pip, npm or cargo: two servers with the example models
# as if they were two pods, load on them (calm, busy, calm; some of it slow, failing, flagged or refused), a Prometheus
# that scrapes them and evaluates the committed rules, and every question of the committed dashboard put to it.
#
#   scripts/dashboard-picture.sh                  takes ten minutes and two processors
#   MINUTES=3 OUT=/tmp/picture.svg scripts/…      a quick look
#   AEGIS=PROGRAM PORT=18080                      another build; the first of the three ports that are used
set -eu

cd "$(dirname "$0")/.."
. scripts/lib.sh
minutes=${MINUTES:-9}
out=${OUT:-docs/images/dashboard.svg}
port=${PORT:-18080}
aegis=${AEGIS:-target/release/aegis}

for tool in prometheus promtool curl; do
    command -v "$tool" >/dev/null 2>&1 || die "$tool was not found." "scripts/k8s-tools.sh brings Prometheus; curl is apt's."
done
for file in models/spam/spam.wasm models/digits/digits.wasm target/guests/hostile.wasm; do
    [ -f "$file" ] || { say "building handlers" && scripts/handlers.sh && break; }
done
if [ ! -x "$aegis" ]; then
    say "building the server"
    cargo build --release --locked -p aegis
fi
say "building what draws"
cargo build --quiet --locked -p aegis-autoscale --example dashboard_picture

work=$(mktemp -d)
started=
# Ends what this script started, and nothing else: of what has ended already the number may be another's by now.
finish() {
    for pid in $started; do
        parent=$(ps -o ppid= -p "$pid" 2>/dev/null | tr -d ' ') || true
        [ "$parent" != "$$" ] || kill "$pid" 2>/dev/null || true
    done
    wait
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM
begin() {
    "$@" >>"$work/log" 2>&1 &
    started="$started $!"
}

# A model that does as it is told: slow, or failing.
mkdir "$work/faulty"
cp target/guests/hostile.wasm models/digits/digits.onnx "$work/faulty/"
cat >"$work/faulty/model.toml" <<'END'
name = "faulty"
handler = "hostile.wasm"
[[graph]]
name = "digits"
file = "digits.onnx"
sessions = 1
[limits]
timeout_ms = 2000
END
# A second version of spam, stricter than the first.
cp -r models/spam "$work/spam"
sed 's/^threshold = .*/threshold = "0.9"/' models/spam/model.toml >"$work/spam/model.toml"

targets=
for pod in a b; do
    at=127.0.0.1:$port
    begin "$aegis" serve --models models --models "$work/faulty" --data "$work/data-$pod" --listen "$at" \
        --predict-max-concurrency 4 --predict-max-queue 12
    targets="$targets $pod=$at"
    port=$((port + 1))
done
for target in $targets; do
    url=http://${target#*=}
    tries=0
    until curl -fs "$url/readyz" >/dev/null; do
        tries=$((tries + 1))
        [ "$tries" -lt 120 ] || { cat "$work/log" >&2; die "no server at $url"; }
        sleep 0.5
    done
    "$aegis" push "$work/spam" --server "$url" >/dev/null
done

prometheus_url=http://127.0.0.1:$port
sed -E 's/interval: (15s|30s|5m)/interval: 5s/' k8s/prometheus/rules.yaml >"$work/rules.yaml"
{
    printf 'global: { scrape_interval: 5s, evaluation_interval: 5s }\nrule_files: [%s]\n' "$work/rules.yaml"
    # The labels that the Prometheus Operator gives, and the relabeling of the ServiceMonitor.
    printf 'scrape_configs:\n- job_name: inference\n  relabel_configs: [{ action: labeldrop, regex: endpoint }]\n  static_configs:\n'
    for target in $targets; do
        printf '  - targets: ["%s"]\n    labels: { namespace: aegis, service: inference, pod: inference-%s, container: aegis, endpoint: http }\n' \
            "${target#*=}" "${target%%=*}"
    done
} >"$work/prometheus.yml"
begin prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/prometheus" \
    --web.listen-address="${prometheus_url#http://}"

# load URL SECONDS RATE WHAT…: requests at this rate, for so long.
load() {
    url=$1 seconds=$2 rate=$3
    shift 3
    begin "$aegis" loadtest --server "$url" --rate "$rate" --workers 1 --duration "${seconds}s" --ramp-up 5s --warm-up 0s \
        --give-up 0s --timeout 5s "$@"
}
# once URL BODY QUERY: one request, whatever comes of it.
once() { curl -s -o /dev/null -m 5 -H 'content-type: text/plain' --data-binary "$2" "$1/predict?identifier=$3" || true; }
# now and then, until the end: requests that fail in the handler, that make no sense, that ask for nobody.
trouble() {
    while :; do
        once "$1" x 'faulty&do=panic'
        sleep 9
        once "$1" '' spam
        sleep 6
        once "$1" x nobody
        sleep 6
    done
}
ham=models/spam/samples/ham.txt
everyday="--file $ham $ham $ham $ham $ham $ham $ham $ham $ham models/spam/samples/spam.txt"
third=$((minutes * 60 / 3))
say "calm, busy and calm again: $minutes minutes"
for target in $targets; do
    trouble "http://${target#*=}" &
    started="$started $!"
done
for part in calm busy calm; do
    for target in $targets; do
        url=http://${target#*=}
        [ "$part" = busy ] && times=5 || times=1
        # shellcheck disable=SC2086 # a list of files
        load "$url" "$((third - 6))" $((12 * times)) --model spam $everyday
        # shellcheck disable=SC2086
        load "$url" "$((third - 6))" $((4 * times)) --model spam --version 2 $everyday
        load "$url" "$((third - 6))" $((6 * times)) --model digits --file models/digits/samples/printed.png models/digits/samples/pixels.json
        load "$url" "$((third - 6))" $((1 * times)) --url "$url/predict?identifier=faulty&do=digits&n=600" --data x --content-type text/plain
    done
    # In the background, so that a signal is heeded at once.
    begin sleep "$third"
    wait "$!"
done

say "asking"
target/debug/examples/dashboard_picture k8s/dashboard/inference-slo.json "$prometheus_url" "$minutes" "$out"
say "$(wc -c <"$out") bytes in $out"
