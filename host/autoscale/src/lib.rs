//! Scaling on what callers feel: one SLO file drives recording rules, alerts, HPA, KEDA, adapter and
//! dashboard ([`slo`], [`render`]); a simulator that decides as Kubernetes' HPA controller does shows
//! beforehand what they will do ([`hpa`], [`simulate`], [`fit`]). No server, no network, no wasm.

pub mod fit;
pub mod hpa;
pub mod replay;
pub mod report;
pub mod simulate;
pub mod render;
pub mod slo;
