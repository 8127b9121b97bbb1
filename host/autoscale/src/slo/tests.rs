//! Claims about reading an SLO file.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;

/// What is said of a text: `line: key: message`.
fn said(text: &str) -> String {
    Slo::parse(text).unwrap_err().to_string()
}

#[track_caller]
fn refused(text: &str, words: &[&str]) {
    let said = said(text);
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
}

#[test]
fn an_empty_file_has_the_figures_of_the_committed_one() {
    let committed = Slo::parse(include_str!("../../../../k8s/slo.toml")).unwrap();
    assert_eq!(Slo::parse("").unwrap(), committed);
    assert_eq!(Slo::default(), committed);
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_what_there_is() {
    refused(
        "[scaling]\nmin_replicas = 3\nmax_replica = 9\n",
        &[
            "line 3",
            "scaling.max_replica",
            "unknown field",
            "`max_replicas`",
        ],
    );
    refused("[slo]\nx = 1\n", &["line 1", "slo", "`objectives`"]);
    refused(
        "[scaling.up]\nstabilization_seconds = 0\nselect = \"max\"\npolicies = [{ pods = 1, period = 3 }]",
        &["line 4", "period", "`period_seconds`"],
    );
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    refused("[service]\nname = \n", &["line 2"]);
}

#[test]
fn a_percentage_over_a_hundred_is_refused() {
    refused(
        "[objectives]\navailability_percent = 101\n",
        &[
            "line 2",
            "objectives.availability_percent",
            "101",
            "at most 100",
        ],
    );
    refused(
        "[scaling]\ncpu_percent = 180",
        &["line 2", "scaling.cpu_percent"],
    );
    refused("[objectives]\navailability_percent = 100", &["no budget"]);
    refused(
        "[objectives]\navailability_percent = 90",
        &["more errors than requests"],
    );
}

#[test]
fn an_objective_between_buckets_is_refused_with_the_boundaries_beside_it() {
    refused(
        "[objectives]\np95_ms = 375\np95_warning_ms = 500\n",
        &[
            "line 2",
            "objectives.p95_ms",
            "375 ms",
            "http_request_duration_seconds",
            "near are 350 ms and 400 ms",
        ],
    );
    refused("[objectives]\np50_ms = 0.05", &["near are 0.1 ms"]);
}

#[test]
fn minimum_over_maximum_is_refused() {
    refused(
        "[scaling]\nmin_replicas = 21\n",
        &["line 2", "scaling.min_replicas", "21", "max_replicas, 20"],
    );
    refused("[scaling]\nmin_replicas = 0\n", &["HPAScaleToZero"]);
}

#[test]
fn objectives_out_of_order_are_refused() {
    refused(
        "[objectives]\np50_ms = 500\n",
        &["objectives.p50_ms", "500 ms", "p95_ms, 350 ms"],
    );
    refused(
        "[objectives]\np95_warning_ms = 200\n",
        &["objectives.p95_warning_ms", "below p95_ms"],
    );
    refused("[objectives]\np99_ms = 200\n", &["objectives.p99_ms"]);
}

#[test]
fn a_behavior_that_kubernetes_refuses_is_refused_here() {
    let up = |fields: &str| format!("[scaling.up]\nselect = \"max\"\n{fields}");
    refused(
        &up("stabilization_seconds = 3601\npolicies = [{ pods = 1, period_seconds = 15 }]"),
        &["line 3", "scaling.up.stabilization_seconds", "0 to 3600"],
    );
    refused(
        &up("stabilization_seconds = 0\npolicies = [{ pods = 1, period_seconds = 1801 }]"),
        &["scaling.up.policies[0].period_seconds", "1 to 1800"],
    );
    refused(
        &up("stabilization_seconds = 0\npolicies = [{ pods = 0, period_seconds = 15 }]"),
        &["scaling.up.policies[0]", "disabled"],
    );
    refused(
        &up("stabilization_seconds = 0\npolicies = []"),
        &["scaling.up.policies", "empty list"],
    );
    refused(
        &up(
            "stabilization_seconds = 0\npolicies = [{ pods = 1, percent = 3, period_seconds = 15 }]",
        ),
        &["exactly one"],
    );
    refused(
        &up("stabilization_seconds = 0\npolicies = [{ period_seconds = 15 }]"),
        &["exactly one"],
    );
    refused(
        "[scaling.down]\nstabilization_seconds = 0\nselect = \"max\"\npolicies = [{ percent = 101, period_seconds = 15 }]",
        &["scaling.down.policies[0].percent", "at most 100"],
    );
    // Upwards, more than all is a policy like another.
    let doubled =
        up("stabilization_seconds = 0\npolicies = [{ percent = 200, period_seconds = 15 }]");
    assert!(Slo::parse(&doubled).is_ok());
}

#[test]
fn every_mistake_of_what_goes_together_is_told_at_once() {
    let error =
        Slo::parse("[scaling]\nmin_replicas = 30\n[objectives]\np50_ms = 500\n").unwrap_err();
    let lines: Vec<_> = error.problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [Some(2), Some(4)]);
}

#[test]
fn a_grace_period_that_cuts_requests_off_is_refused() {
    refused(
        "[pod]\ngrace_period_seconds = 20\n",
        &["line 2", "pod.grace_period_seconds", "35 s"],
    );
}

#[test]
fn targets_that_are_never_reached_are_refused() {
    refused("[scaling]\nin_flight_per_pod = 80\n", &["never reached"]);
    refused("[scaling]\nqueue_per_pod = 64\n", &["refused already"]);
}

#[test]
fn windows_too_short_for_the_scrapes_are_refused() {
    refused(
        "[metrics]\nscrape_seconds = 30\n",
        &[
            "metrics.rate_window_seconds",
            "at least 120",
            "gauge_window_seconds",
            "at least 60",
        ],
    );
}

#[test]
fn a_request_over_its_limit_is_refused() {
    refused(
        "[pod]\ncpu_request = \"3\"\n",
        &["pod.cpu_request", "cpu_limit, 2000m"],
    );
    refused(
        "[pod]\nmemory_limit = \"4GB\"\n",
        &["line 2", "pod.memory_limit", "4GB"],
    );
}

#[test]
fn an_image_without_a_tag_that_stays_is_refused() {
    for image in ["aegis", "aegis:latest", "host:5000/aegis"] {
        refused(
            &format!("[service]\nimage = \"{image}\"\n"),
            &["service.image", image],
        );
    }
    let digest = "a".repeat(64);
    let text = format!("[service]\nimage = \"host:5000/aegis@sha256:{digest}\"\n");
    assert!(Slo::parse(&text).is_ok());
}

#[test]
fn alerts_link_to_a_page_of_the_web_or_of_the_repository() {
    let of = |place: &str| format!("[service]\nrunbook_url = \"{place}\"\n");
    for place in [
        "https://git.example.org/aegis/blob/main/k8s/SLO_DEPLOYMENT_GUIDE.md",
        "docs/operations/inference.md",
        "GUIDE.md",
    ] {
        assert_eq!(Slo::parse(&of(place)).unwrap().service.runbook_url, place);
    }
    for place in [
        "",
        "https://",
        "ftp://example.org/guide",
        "javascript:alert(1)",
        "/etc/guide.md",
        "../guide.md",
        "the guide.md",
        "k8s/GUIDE.md#alerts",
    ] {
        refused(
            &of(place),
            &[
                "line 2",
                "service.runbook_url",
                place,
                "a path in the repository",
            ],
        );
    }
}
