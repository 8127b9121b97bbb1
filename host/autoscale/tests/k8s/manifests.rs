//! The folder and its overlays, built as an operator builds them, and held to Kubernetes' schemas.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

use crate::{
    schemas,
    tools::{documents, find, k8s, read, succeed},
};

const BUILDS: [&str; 6] = [
    ".",
    "hpa",
    "keda",
    "overlays/gpu",
    "overlays/canary-gateway",
    "overlays/canary-nginx",
];

/// What `kubectl apply -k` would send.
fn build(folder: &str) -> Option<Vec<Value>> {
    let kubectl = find("kubectl", "python/bin")?;
    let text = succeed(
        Command::new(kubectl)
            .arg("kustomize")
            .arg(k8s().join(folder)),
    );
    Some(documents(&text))
}

fn named<'o>(objects: &'o [Value], kind: &str) -> Vec<&'o Value> {
    objects
        .iter()
        .filter(|object| object["kind"] == kind)
        .collect()
}

/// Kinds of Kubernetes itself.
fn built_in(object: &Value) -> bool {
    let group = object["apiVersion"].as_str().unwrap();
    [
        "v1",
        "apps/v1",
        "policy/v1",
        "autoscaling/v2",
        "networking.k8s.io/v1",
    ]
    .contains(&group)
}

#[test]
fn every_build_fits_the_schemas_and_has_no_unknown_key() {
    for folder in BUILDS {
        let Some(objects) = build(folder) else {
            return;
        };
        let (own, others): (Vec<Value>, Vec<Value>) = objects.into_iter().partition(built_in);
        if let Some(said) = schemas::complaints(&others) {
            assert!(said.is_empty(), "{folder}:\n{said}");
        }
        let Some(validate) = find("kubernetes-validate", "python/bin") else {
            return;
        };
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        let texts: Vec<String> = own.iter().map(ToString::to_string).collect();
        std::fs::write(file.path(), texts.join("\n---\n")).unwrap();
        succeed(
            Command::new(validate)
                .args(["--strict", "-k", "1.36"])
                .arg(file.path()),
        );
    }
}

#[test]
fn the_validator_sees_an_unknown_key() {
    let Some(validate) = find("kubernetes-validate", "python/bin") else {
        return;
    };
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let wrong = read("hpa/inference-slo-hpa.yaml").replace("minReplicas", "minReplica");
    std::fs::write(file.path(), wrong).unwrap();
    let status = Command::new(validate)
        .args(["--strict", "-k", "1.36"])
        .arg(file.path())
        .output()
        .unwrap()
        .status;
    assert!(!status.success());
}

#[test]
fn no_build_has_two_autoscalers_for_one_deployment() {
    for folder in BUILDS {
        let Some(objects) = build(folder) else {
            return;
        };
        let mut targets = Vec::new();
        for kind in ["HorizontalPodAutoscaler", "ScaledObject"] {
            for object in named(&objects, kind) {
                targets.push(object["spec"]["scaleTargetRef"]["name"].clone());
            }
        }
        // A canary is applied beside any of the others, and brings no autoscaler along.
        let scaled: &[&str] = if folder.contains("canary") {
            &[]
        } else {
            &["inference"]
        };
        assert_eq!(targets, scaled, "{folder}");
        // What is scaled has no replicas of its own, what is not has.
        for deployment in named(&objects, "Deployment") {
            let scaled = targets.contains(&deployment["metadata"]["name"]);
            assert_eq!(deployment["spec"]["replicas"].is_null(), scaled, "{folder}");
        }
    }
}

#[test]
fn selectors_of_two_tracks_never_meet() {
    for folder in ["overlays/canary-gateway", "overlays/canary-nginx"] {
        let (Some(service), Some(canary)) = (build("keda"), build(folder)) else {
            return;
        };
        let objects = [service, canary].concat();
        let mut seen = BTreeSet::new();
        for deployment in named(&objects, "Deployment") {
            let labels = &deployment["spec"]["template"]["metadata"]["labels"];
            let selector = &deployment["spec"]["selector"]["matchLabels"];
            assert_eq!(labels, selector, "{folder}");
            assert!(seen.insert(selector.to_string()), "{folder}: {selector}");
        }
        assert_eq!(seen.len(), 2, "{folder}");
        // Each Service finds the pods of exactly one.
        for service in named(&objects, "Service") {
            assert!(seen.contains(&service["spec"]["selector"].to_string()));
        }
    }
}

/// The Deployment's container.
fn container() -> Value {
    let deployment = &documents(&read("base/inference-deployment-slo.yaml"))[0];
    deployment["spec"]["template"]["spec"]["containers"][0].clone()
}

#[test]
fn the_hpa_has_the_figures_it_was_specified_with() {
    let hpa = &documents(&read("hpa/inference-slo-hpa.yaml"))[0];
    let spec = &hpa["spec"];
    assert_eq!(
        (&spec["minReplicas"], &spec["maxReplicas"]),
        (&3.into(), &20.into())
    );
    let metrics: Vec<(Value, Value)> = spec["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|metric| match metric["type"].as_str() {
            Some("Pods") => (
                metric["pods"]["metric"]["name"].clone(),
                metric["pods"]["target"]["averageValue"].clone(),
            ),
            _ => (
                metric["resource"]["name"].clone(),
                metric["resource"]["target"]["averageUtilization"].clone(),
            ),
        })
        .collect();
    assert_eq!(
        metrics,
        [
            // Thousandths of a second: `350` would be six minutes.
            ("http_request_duration_p95".into(), "350m".into()),
            ("http_requests_in_flight".into(), "10".into()),
            ("aegis_inference_queue_depth".into(), "4".into()),
            ("cpu".into(), 80.into()),
        ]
    );
    let behavior = |direction: &str| {
        let side = &spec["behavior"][direction];
        let policies = side["policies"].as_array().unwrap();
        let policies: Vec<_> = policies
            .iter()
            .map(|p| {
                format!(
                    "{} {}/{}",
                    p["type"].as_str().unwrap(),
                    p["value"],
                    p["periodSeconds"]
                )
            })
            .collect();
        let select = side["selectPolicy"].as_str().unwrap();
        format!(
            "{} {select} {}",
            side["stabilizationWindowSeconds"],
            policies.join(" ")
        )
    };
    assert_eq!(behavior("scaleUp"), "60 Max Pods 2/30 Percent 50/30");
    assert_eq!(behavior("scaleDown"), "300 Min Pods 1/60 Percent 10/120");
}

#[test]
fn a_latency_is_never_divided_by_the_replicas() {
    let object = &documents(&read("keda/inference-keda-scaler.yaml"))[0];
    for trigger in object["spec"]["triggers"].as_array().unwrap() {
        let query = trigger["metadata"]["query"].as_str().unwrap_or_default();
        let expected = match trigger["type"].as_str().unwrap() {
            "cpu" => "Utilization",
            _ if query.contains("histogram_quantile") => "Value",
            _ => "AverageValue",
        };
        assert_eq!(trigger["metricType"], expected, "{trigger}");
        // KEDA makes a huge negative number of NaN.
        if expected == "Value" {
            assert!(query.ends_with(">= 0"), "{query}");
        }
        // One element, or KEDA refuses the answer.
        assert!(!query.contains("sum by (namespace"), "{query}");
    }
}

#[test]
fn adapter_and_hpa_name_the_same_metrics() {
    let names = |text: &str| -> BTreeSet<String> {
        let values = &documents(text)[0];
        let rules = values["rules"]["custom"].as_array().unwrap().iter();
        rules
            .map(|rule| rule["name"]["as"].as_str().unwrap().to_owned())
            .collect()
    };
    let asked = |metrics: &Value| -> BTreeSet<String> {
        let metrics = metrics.as_array().unwrap().iter();
        metrics
            .filter_map(|metric| metric["pods"]["metric"]["name"].as_str())
            .map(str::to_owned)
            .collect()
    };
    let base = names(&read("prometheus/adapter-values.yaml"));
    let hpa = &documents(&read("hpa/inference-slo-hpa.yaml"))[0];
    assert_eq!(asked(&hpa["spec"]["metrics"]), base);
    let gpu = names(&read("prometheus/adapter-values-gpu.yaml"));
    let patch = &documents(&read("overlays/gpu/hpa.yaml"))[0];
    let asked = asked(&patch[0]["value"]);
    assert!(asked.is_subset(&gpu), "{asked:?} {gpu:?}");
    assert!(asked.contains("gpu_utilization") && asked.contains("aegis_inference_queue_depth"));
}

#[test]
fn the_port_label_never_hides_the_route() {
    // The Operator would call the port `endpoint`, and Prometheus the route `exported_endpoint`.
    let monitor = &documents(&read("base/inference-servicemonitor.yaml"))[0];
    let relabeling = &monitor["spec"]["endpoints"][0]["relabelings"][0];
    assert_eq!(relabeling["action"], "labeldrop");
    assert_eq!(relabeling["regex"], "endpoint");
}

#[test]
fn a_pod_ends_in_the_order_that_loses_no_request() {
    let deployment = &documents(&read("base/inference-deployment-slo.yaml"))[0];
    let pod = &deployment["spec"]["template"]["spec"];
    let container = container();
    let setting = |name: &str| -> u64 {
        let entries = container["env"].as_array().unwrap();
        let entry = entries.iter().find(|entry| entry["name"] == name).unwrap();
        entry["value"].as_str().unwrap().parse().unwrap()
    };
    let killed = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    let hook = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        .as_u64()
        .unwrap();
    let grace = setting("AEGIS_GRACE_PERIOD_S");
    assert!(killed > hook + grace, "{killed} {hook} {grace}");
    let slowest = setting("AEGIS_DRAIN_DELAY_MS") + setting("AEGIS_REQUEST_TIMEOUT_MS");
    assert!(grace * 1000 >= slowest, "{grace} {slowest}");
}

#[test]
fn the_deployment_starts_without_a_token() {
    // Management on an address that others reach needs one; it is off.
    let container = container();
    let has = |name: &str, value: &str| {
        let entries = container["env"].as_array().unwrap();
        assert!(
            entries.contains(&serde_json::json!({ "name": name, "value": value })),
            "{name}"
        );
    };
    has("AEGIS_LISTEN", "0.0.0.0:8000");
    has("AEGIS_MANAGEMENT", "off");
}

#[test]
fn probes_ask_what_they_should() {
    let container = container();
    for (probe, path) in [
        ("startupProbe", "/health"),
        ("readinessProbe", "/readyz"),
        ("livenessProbe", "/livez"),
    ] {
        assert_eq!(container[probe]["httpGet"]["path"], path);
    }
    let startup = &container["startupProbe"];
    let seconds =
        startup["periodSeconds"].as_u64().unwrap() * startup["failureThreshold"].as_u64().unwrap();
    assert_eq!(seconds, 120);
}

#[test]
fn every_setting_of_the_deployment_is_one_of_the_server() {
    let page = std::fs::read_to_string(crate::tools::root().join("docs/configuration.md")).unwrap();
    for entry in container()["env"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn pods_may_do_nothing_that_they_need_not() {
    let deployment = &documents(&read("base/inference-deployment-slo.yaml"))[0];
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["capabilities"]["drop"][0], "ALL");
    let policy = &documents(&read("base/inference-networkpolicy.yaml"))[0];
    assert_eq!(policy["spec"]["egress"], serde_json::json!([]));
}
