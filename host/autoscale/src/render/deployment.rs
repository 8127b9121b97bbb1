//! The Deployment: resources, probes, how a pod starts and stops, where it may run, what it may do.

use super::{
    APP, STABLE, TRACK, metadata, metadata_with,
    node::{Node, list, map},
    objects::{PORT, PORT_NAME},
    pod_labels,
};
use crate::slo::Slo;

/// What stands at the head of the file.
pub(super) const ABOUT: &str = "\
There is no `replicas` here: the autoscaler has it, and a number would set it back at every apply.
Management is off: models are in the image (or a volume at /models), and each replica has its own store, so an upload
through the Service would reach one replica only. See SLO_DEPLOYMENT_GUIDE.md.";

/// The user that the image runs as.
const USER: u32 = 65532;

/// The Deployment that is scaled.
pub(super) fn stable(slo: &Slo) -> Node {
    deployment(slo, "", STABLE, &slo.service.image, None)
}

/// A Deployment of one track. With `replicas` it is one that nothing scales.
pub(super) fn deployment(
    slo: &Slo,
    suffix: &str,
    track: &str,
    image: &str,
    replicas: Option<u32>,
) -> Node {
    let labels = pod_labels(slo, track);
    let spec = map! {}
        .with("replicas", replicas.map(Node::from))
        .with("revisionHistoryLimit", Some(Node::from(5)))
        // A new pod is ready before an old one goes: a roll-out takes nothing from capacity.
        .with(
            "strategy",
            Some(map! {
                "type" => "RollingUpdate",
                "rollingUpdate" => map! { "maxUnavailable" => 0, "maxSurge" => "25%" },
            }),
        )
        .with("selector", Some(map! { "matchLabels" => labels.clone() }))
        .with(
            "template",
            Some(map! {
                "metadata" => map! { "labels" => labels },
                "spec" => pod(slo, track, image),
            }),
        );
    let more = vec![(TRACK.to_owned(), Node::from(track))];
    map! {
        "apiVersion" => "apps/v1",
        "kind" => "Deployment",
        "metadata" => if track == STABLE { metadata(slo, suffix) } else { metadata_with(slo, suffix, more) },
        "spec" => spec,
    }
}

fn pod(slo: &Slo, track: &str, image: &str) -> Node {
    map! {
        "serviceAccountName" => slo.service.name.as_str(),
        "automountServiceAccountToken" => false,
        "enableServiceLinks" => false,
        "terminationGracePeriodSeconds" => slo.pod.termination_grace_seconds(),
        "securityContext" => map! {
            "runAsNonRoot" => true,
            "runAsUser" => USER,
            "runAsGroup" => USER,
            "fsGroup" => USER,
            "seccompProfile" => map! { "type" => "RuntimeDefault" },
        },
        "topologySpreadConstraints" => list![
            spread(slo, track, "kubernetes.io/hostname"),
            spread(slo, track, "topology.kubernetes.io/zone"),
        ],
        "containers" => list![container(slo, image)],
        "volumes" => list![
            map! { "name" => "data", "emptyDir" => map! { "sizeLimit" => slo.pod.data_size.as_str() } },
            map! { "name" => "tmp", "emptyDir" => map! { "sizeLimit" => "256Mi" } },
        ],
    }
}

/// Evenly over nodes or zones, as far as there is room: where there is none, a pod in the wrong
/// place is better than none. Old and new pods of a roll-out are not counted together.
fn spread(slo: &Slo, track: &str, topology: &str) -> Node {
    map! {
        "maxSkew" => 1,
        "topologyKey" => topology,
        "whenUnsatisfiable" => "ScheduleAnyway",
        "labelSelector" => map! {
            "matchLabels" => map! { APP => slo.service.name.as_str(), TRACK => track },
        },
        "matchLabelKeys" => list!["pod-template-hash"],
    }
}

fn container(slo: &Slo, image: &str) -> Node {
    let pod = &slo.pod;
    map! {
        "name" => "aegis",
        "image" => image,
        "args" => list!["serve"],
        // One port: callers, probes and Prometheus. Two entries of one number are refused by
        // server-side apply.
        "ports" => list![map! { "name" => PORT_NAME, "containerPort" => PORT, "protocol" => "TCP" }],
        "env" => environment(slo),
        "resources" => map! {
            "requests" => map! {
                "cpu" => pod.cpu_request.as_str(),
                "memory" => pod.memory_request.as_str(),
            },
            "limits" => map! {
                "cpu" => pod.cpu_limit.as_str(),
                "memory" => pod.memory_limit.as_str(),
            },
        },
        // /health is 200 when every model is loaded and warm; the first look also loads the native
        // runtimes to name them, so it may take a while.
        "startupProbe" => probe("/health", 2, 5, pod.startup_seconds.div_ceil(2)),
        "readinessProbe" => probe("/readyz", 5, 2, 2),
        // Only a process that answers nothing for a minute is worth a restart: under load a
        // restart makes things worse.
        "livenessProbe" => probe("/livez", 10, 5, 6),
        "lifecycle" => map! {
            "preStop" => map! { "sleep" => map! { "seconds" => pod.pre_stop_seconds } },
        },
        "securityContext" => map! {
            "allowPrivilegeEscalation" => false,
            "readOnlyRootFilesystem" => true,
            "capabilities" => map! { "drop" => list!["ALL"] },
        },
        "volumeMounts" => list![
            map! { "name" => "data", "mountPath" => "/data" },
            map! { "name" => "tmp", "mountPath" => "/tmp" },
        ],
    }
}

/// The server's settings (docs/configuration.md).
fn environment(slo: &Slo) -> Node {
    let pod = &slo.pod;
    let settings = [
        ("AEGIS_LISTEN", format!("0.0.0.0:{PORT}")),
        ("AEGIS_MANAGEMENT", "off".to_owned()),
        ("AEGIS_DATA", "/data".to_owned()),
        ("AEGIS_MODELS", "/models".to_owned()),
        ("AEGIS_PREWARM_MODEL", "1".to_owned()),
        ("AEGIS_READINESS_CHECK_MODEL", "1".to_owned()),
        (
            "AEGIS_PREDICT_MAX_CONCURRENCY",
            pod.max_concurrency.to_string(),
        ),
        ("AEGIS_PREDICT_MAX_QUEUE", pod.max_queue.to_string()),
        (
            "AEGIS_REQUEST_TIMEOUT_MS",
            pod.request_timeout_ms.to_string(),
        ),
        ("AEGIS_DRAIN_DELAY_MS", pod.drain_delay_ms.to_string()),
        ("AEGIS_GRACE_PERIOD_S", pod.grace_period_seconds.to_string()),
        ("AEGIS_LOG_FORMAT", "json".to_owned()),
    ];
    let entries = settings
        .into_iter()
        .map(|(name, value)| map! { "name" => name, "value" => value });
    Node::List(entries.collect())
}

fn probe(path: &str, period: u32, timeout: u32, failures: u32) -> Node {
    map! {
        "httpGet" => map! { "path" => path, "port" => PORT_NAME },
        "periodSeconds" => period,
        "timeoutSeconds" => timeout,
        "failureThreshold" => failures,
    }
}
