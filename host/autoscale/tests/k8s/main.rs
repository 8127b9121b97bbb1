//! Claims about the folder `k8s/`: that it is what `slo.toml` makes of it, and that the tools which
//! take it (promtool, Kubernetes' schemas, kustomize, the schemas of KEDA and the Prometheus
//! Operator) take it without a word. `scripts/k8s-tools.sh` brings the tools.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod alerts;
mod folder;
mod guide;
mod manifests;
mod promtool;
mod recordings;
mod scenario;
mod schemas;
mod tools;
