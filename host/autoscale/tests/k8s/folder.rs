//! The committed folder is what the renderer makes of the committed file.

use aegis_autoscale::{
    hpa::Hpa,
    render::{self, Differs},
    report,
    slo::Slo,
};

use crate::tools::{k8s, read};

pub(crate) fn slo() -> Slo {
    Slo::parse(&read("slo.toml")).unwrap()
}

#[test]
fn the_folder_is_what_the_slo_makes_of_it() {
    if std::env::var_os("UPDATE_K8S").is_some() {
        render::write(&k8s(), &slo()).unwrap();
    }
    let differences = render::check(&k8s(), &slo()).unwrap();
    let said: Vec<String> = differences.iter().map(ToString::to_string).collect();
    assert!(
        said.is_empty(),
        "k8s/ and k8s/slo.toml have parted; run `aegis slo render`, or UPDATE_K8S=1 cargo test -p aegis-autoscale:\n{}",
        said.join("\n")
    );
}

#[test]
fn what_is_simulated_is_what_is_applied() {
    let applied = Hpa::from_yaml(&read("hpa/inference-slo-hpa.yaml")).unwrap();
    assert_eq!(report::hpa_of(&slo()).unwrap(), applied);
    // And without a file, too, as long as the committed one has the built-in figures.
    let (_, built_in) = report::hpas(&Slo::default()).unwrap().remove(1);
    assert_eq!(built_in, applied);
    assert_ne!(
        built_in,
        report::hpa_of(&Slo::parse("[scaling]\nmax_replicas = 30\n").unwrap()).unwrap()
    );
}

#[test]
fn a_change_to_the_folder_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let slo = slo();
    let written = render::write(folder.path(), &slo).unwrap();
    assert_eq!(render::check(folder.path(), &slo).unwrap(), []);
    assert_eq!(
        render::write(folder.path(), &slo).unwrap(),
        Vec::<std::path::PathBuf>::new()
    );
    let path = |name: &str| folder.path().join(name);
    let hpa = std::fs::read_to_string(path("hpa/inference-slo-hpa.yaml")).unwrap();
    std::fs::write(
        path("hpa/inference-slo-hpa.yaml"),
        hpa.replace("350m", "350"),
    )
    .unwrap();
    std::fs::remove_file(path("base/inference-pdb.yaml")).unwrap();
    std::fs::copy(path("base/inference-service.yaml"), path("old.yaml")).unwrap();
    std::fs::write(path("mine.yaml"), "kind: Mine\n").unwrap();
    let differences = render::check(folder.path(), &slo).unwrap();
    let line = hpa.lines().position(|line| line.contains("350m")).unwrap();
    // The comment names 350m too, and is the first line that differs.
    let seen: Vec<_> = differences
        .iter()
        .map(|difference| (difference.path.to_str().unwrap(), difference.what))
        .collect();
    assert_eq!(
        seen,
        [
            ("base/inference-pdb.yaml", Differs::Missing),
            ("hpa/inference-slo-hpa.yaml", Differs::Line(line + 1)),
            ("old.yaml", Differs::Stale),
        ]
    );
    assert!(written.len() > 20);
}

#[test]
fn every_figure_of_the_file_reaches_what_is_rendered() {
    // A key that changes nothing would be a promise that nobody keeps.
    let text = read("slo.toml");
    let before = render::all(&slo()).unwrap();
    let changes = [
        ("window_days = 30", "window_days = 40"),
        ("availability_percent = 99.5", "availability_percent = 99.9"),
        ("p50_ms = 200", "p50_ms = 100"),
        ("p95_ms = 350", "p95_ms = 200"),
        ("p95_warning_ms = 400", "p95_warning_ms = 500"),
        ("p99_ms = 1500", "p99_ms = 2000"),
        ("min_replicas = 3", "min_replicas = 4"),
        ("max_replicas = 20", "max_replicas = 21"),
        ("p95_target_ms = 350", "p95_target_ms = 500"),
        ("in_flight_per_pod = 10", "in_flight_per_pod = 2.5"),
        ("queue_per_pod = 4", "queue_per_pod = 5"),
        ("cpu_percent = 80", "cpu_percent = 70"),
        ("stabilization_seconds = 60", "stabilization_seconds = 0"),
        ("select = \"min\"", "select = \"disabled\""),
        ("pods = 2,", "pods = 4,"),
        ("baseline_percent = 0.1", "baseline_percent = 0.2"),
        ("spike_factor = 3", "spike_factor = 4"),
        ("minimum_flags = 5", "minimum_flags = 6"),
        ("minimum_predictions = 100", "minimum_predictions = 200"),
        ("for_minutes = 5", "for_minutes = 6"),
        ("at_maximum_minutes = 15", "at_maximum_minutes = 16"),
        ("refused_percent = 1", "refused_percent = 2"),
        ("cpu_request = \"500m\"", "cpu_request = \"1\""),
        ("cpu_limit = \"2000m\"", "cpu_limit = \"4\""),
        ("memory_request = \"2Gi\"", "memory_request = \"3Gi\""),
        ("memory_limit = \"4Gi\"", "memory_limit = \"5Gi\""),
        ("data_size = \"2Gi\"", "data_size = \"3Gi\""),
        ("max_concurrency = 16", "max_concurrency = 17"),
        ("max_queue = 64", "max_queue = 65"),
        ("request_timeout_ms = 30000", "request_timeout_ms = 20000"),
        ("startup_seconds = 120", "startup_seconds = 60"),
        ("pre_stop_seconds = 5", "pre_stop_seconds = 6"),
        ("drain_delay_ms = 5000", "drain_delay_ms = 6000"),
        ("grace_period_seconds = 40", "grace_period_seconds = 41"),
        ("scrape_seconds = 15", "scrape_seconds = 10"),
        ("rate_window_seconds = 60", "rate_window_seconds = 120"),
        ("gauge_window_seconds = 30", "gauge_window_seconds = 60"),
        ("prometheus-operated", "prometheus"),
        ("kube-prometheus-stack", "mine"),
        (
            "caller_namespaces = [\"ingress-nginx\"]",
            "caller_namespaces = []",
        ),
        (
            "monitoring_namespace = \"monitoring\"",
            "monitoring_namespace = \"watch\"",
        ),
        ("name = \"inference\"", "name = \"other\""),
        ("namespace = \"aegis\"", "namespace = \"other\""),
        ("image = \"aegis:0.1.0\"", "image = \"aegis:0.2.0\""),
        (
            "\"k8s/SLO_DEPLOYMENT_GUIDE.md\"",
            "\"https://git.example.org/aegis/k8s/SLO_DEPLOYMENT_GUIDE.md\"",
        ),
        ("image = \"aegis:0.1.0-gpu\"", "image = \"aegis:0.2.0-gpu\""),
        ("\nper_pod = 1", "\nper_pod = 2"),
        ("utilization_percent = 80", "utilization_percent = 70"),
        ("queue_per_pod = 8", "queue_per_pod = 9"),
        (
            "node_label = \"nvidia.com/gpu.present\"",
            "node_label = \"gpu\"",
        ),
        (
            "resource = \"nvidia.com/gpu\"",
            "resource = \"amd.com/gpu\"",
        ),
        ("\"exported_namespace\"", "\"namespace\""),
        ("\"exported_pod\"", "\"pod\""),
        ("aegis:0.1.0-canary", "aegis:0.2.0-canary"),
        ("weight_percent = 10", "weight_percent = 5"),
        ("\nreplicas = 1", "\nreplicas = 2"),
        (
            "host = \"inference.example.com\"",
            "host = \"other.example.com\"",
        ),
        ("gateway = \"public\"", "gateway = \"private\""),
        (
            "gateway_namespace = \"gateways\"",
            "gateway_namespace = \"other\"",
        ),
        ("ingress_class = \"nginx\"", "ingress_class = \"other\""),
    ];
    for (old, new) in changes {
        assert!(text.contains(old), "{old}");
        let changed = Slo::parse(&text.replacen(old, new, 1))
            .unwrap_or_else(|error| panic!("{new}: {error}"));
        assert!(render::all(&changed).unwrap() != before, "{new}");
    }
}
