//! What was put in comes out; what cannot be told is refused.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;
use crate::{
    hpa::Hpa,
    simulate::{Profile, simulate},
    slo::Slo,
};

const HEADER: &str = "Timestamp,Users,Workers,Duration,InitialReplicas,PeakReplicas,FinalReplicas,ScaleUpEvents,ScaleDownEvents,Requests,RPS,P50,P95,P99,MaxLatency,FailureRate\n";

/// What a load test of a known service would find, as its CSV.
fn measured(service_ms: f64, cv: f64, concurrency: u32, users: &[u32], replicas: u32) -> String {
    let service = (service_ms, cv, concurrency);
    measured_by("users", service, users, &replicas.to_string())
}

/// The same by users or by `rps`, with the columns of the replicas as they are told, of one replica
/// where they are not.
fn measured_by(
    kind: &str,
    (service_ms, cv, concurrency): (f64, f64, u32),
    loads: &[u32],
    told: &str,
) -> String {
    let replicas: u32 = told.parse().unwrap_or(1);
    let mut config = Config::of(&Slo::default()).unwrap();
    config.service.time = ServiceTime::log_normal(service_ms / 1e3, cv).unwrap();
    config.service.concurrency = concurrency;
    config.service.max_queue = 1_000_000;
    config.think = 1.0;
    config.seed = 99;
    let hpa = Hpa::from_yaml(&format!(
        "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nspec:\n  scaleTargetRef: {{kind: Deployment, name: a}}\n  minReplicas: {replicas}\n  maxReplicas: {replicas}\n"
    ))
    .unwrap();
    let mut csv = HEADER.to_owned();
    for load in loads {
        let profile =
            Profile::from_csv("a", &format!("time,{kind}\n0,{load}\n240,{load}\n")).unwrap();
        let users = if kind == "users" {
            load.to_string()
        } else {
            String::new()
        };
        let s = simulate(&config, &hpa, &profile).unwrap().summary;
        csv += &format!(
            "2024-01-15T10:00:00,{users},4,240,{told},{told},{told},0,0,{},{:.2},{},{},{},{},0.0\n",
            s.requests,
            s.requests as f64 / 240.0,
            s.p50_ms.unwrap(),
            s.p95_ms.unwrap(),
            s.p99_ms.unwrap(),
            s.p99_ms.unwrap() * 1.5,
        );
    }
    csv
}

fn fitted(csv: &str) -> Result<Fit, FitError> {
    fit(
        &read_results(csv)?,
        None,
        &Config::of(&Slo::default()).unwrap(),
    )
}

#[test]
fn a_known_service_is_found_again() {
    for (service, cv, concurrency) in [(100.0, 0.5, 4), (40.0, 0.3, 2)] {
        let csv = measured(service, cv, concurrency, &[10, 25, 50, 75, 100], 1);
        let fit = fitted(&csv).unwrap();
        assert_eq!(fit.concurrency, concurrency, "{fit:?}");
        assert!((fit.service_ms / service - 1.0).abs() < 0.1, "{fit:?}");
        assert!((fit.think_s.unwrap() - 1.0).abs() < 0.1, "{fit:?}");
        assert!(fit.rms_percent < 6.0, "{fit:?}");
        let mut config = Config::of(&Slo::default()).unwrap();
        fit.apply(&mut config).unwrap();
        assert_eq!(config.service.concurrency, concurrency);
    }
}

#[test]
fn rows_that_never_queue_do_not_tell_the_concurrency() {
    let csv = measured(100.0, 0.5, 16, &[5, 10, 15], 1);
    let told = fitted(&csv).unwrap_err().to_string();
    assert!(
        told.contains("fit alike") && told.contains("load it harder"),
        "{told}"
    );
}

#[test]
fn rows_whose_replicas_changed_or_that_failed_are_left_out_with_the_reason() {
    let seeds = format!(
        "{HEADER}2024-01-15T10:00:00,100,4,240,3,6,5,2,0,9650,40.21,245,312,458,1203,0.0\n\
         2024-01-15T10:05:00,100,4,240,3,3,3,0,0,9650,40.21,245,312,458,1203,7.5\n\
         2024-01-15T10:05:00,100,4,240,,,,,,9650,40.21,245,312,458,1203,0\n"
    );
    let told = fitted(&seeds).unwrap_err().to_string();
    for words in [
        "0 of 3 rows",
        "line 2: replicas went from 3 over 6 to 5",
        "line 3: 7.5 % failed",
        "line 4: it does not tell the replicas: say how many with --replicas",
    ] {
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn one_load_alone_tells_nothing() {
    let csv = measured(100.0, 0.5, 4, &[50, 50], 1);
    assert!(matches!(
        fitted(&csv),
        Err(FitError::TooFewRows { usable: 2, .. })
    ));
}

#[test]
fn an_open_loop_is_noticed() {
    let csv = format!(
        "{HEADER}x,10,4,240,1,1,1,0,0,1,20,100,180,220,300,0\nx,100,4,240,1,1,1,0,0,1,21,100,180,220,300,0\n"
    );
    let told = fitted(&csv).unwrap_err().to_string();
    assert!(told.contains("was this a closed loop?"), "{told}");
}

#[test]
fn an_open_loop_without_users_or_replicas_tells_the_service_but_not_the_thought() {
    let csv = measured_by("rps", (100.0, 0.5, 4), &[5, 15, 25, 32, 36], "");
    let told = fitted(&csv).unwrap_err().to_string();
    assert!(told.contains("say how many with --replicas"), "{told}");
    let base = Config::of(&Slo::default()).unwrap();
    let fit = fit(&read_results(&csv).unwrap(), Some(1), &base).unwrap();
    assert_eq!((fit.concurrency, fit.think_s), (4, None), "{fit:?}");
    assert!((fit.service_ms / 100.0 - 1.0).abs() < 0.1, "{fit:?}");
    let mut config = base.clone();
    fit.apply(&mut config).unwrap();
    assert_eq!(config.think, base.think);
    let told = crate::report::fit_text(&fit);
    assert!(told.contains("an open loop does not tell"), "{told}");
}

#[test]
fn an_open_loop_beyond_capacity_is_refused_with_what_it_is() {
    // 80 a second where 40 can be answered: half of those of four minutes still wait at the end.
    let csv = measured_by("rps", (100.0, 0.5, 4), &[5, 30, 80], "1");
    let told = fitted(&csv).unwrap_err().to_string();
    assert!(told.contains("an open loop beyond capacity"), "{told}");
}

#[test]
fn simulated_replicas_are_no_measurement() {
    let csv = measured(100.0, 0.5, 4, &[10, 50], 3);
    let csv = csv.replacen('\n', &format!("\n{SIMULATED}\n"), 1);
    assert!(
        read_results(&csv)
            .unwrap()
            .iter()
            .all(|row| row.replicas.is_none())
    );
    let told = fitted(&csv).unwrap_err().to_string();
    assert!(
        told.contains("line 3: it does not tell the replicas"),
        "{told}"
    );
}

#[test]
fn a_row_without_an_answer_is_left_out_with_the_reason() {
    let csv = format!("{HEADER}x,5,4,240,1,1,1,0,0,0,0,,,,,0.0\n");
    let told = fitted(&csv).unwrap_err().to_string();
    assert!(told.contains("line 2: nothing was answered"), "{told}");
}

#[test]
fn a_file_that_is_no_result_is_refused_with_line_and_column() {
    let row = |fields: &str| {
        read_results(&format!("{HEADER}{fields}\n"))
            .unwrap_err()
            .to_string()
    };
    assert!(
        read_results("Users,RPS\n1,2\n")
            .unwrap_err()
            .to_string()
            .contains("must be `Timestamp,Users")
    );
    assert!(row("x,1,2").contains("line 2: it has 3 columns, not 16"));
    assert!(row("x,-5,4,240,1,1,1,0,0,1,20,100,180,220,300,0").contains("Users is -5"));
    assert!(row("x,5,4,240,1,1,1,0,0,1,fast,100,180,220,300,0").contains("RPS is `fast`"));
    assert!(row("x,5,4,240,1,,1,0,0,1,20,100,180,220,300,0").contains("all or none"));
    assert!(row("x,5,4,240,1,1,1,0,0,1,20,100,80,220,300,0").contains("must rise"));
    assert!(
        row("x,5,4,240,1,1,1,0,0,1,20,100,,220,300,0").contains("P50, P95 and P99: all or none")
    );
}
