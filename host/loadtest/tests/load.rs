//! The load test against servers that do well, badly, or nothing at all.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod stand_in;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use aegis_loadtest::{
    arrivals::Arrival,
    failure::FailureKind,
    objective::{Objective, Verdict},
    plan::{Connections, Loads, Plan, Think, Timing},
    probe::{ProbeError, Probed},
    replicas::{
        Driven, DrivenKind, Origin, Reading, ReplicaError, ReplicaModel, ReplicaSource,
        ReplicasFrom,
    },
    report::{CellResult, Ended, Report},
    run::{LoadTest, Phase, RunError, Tick, Watcher},
    target::{Body, Target},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use stand_in::{Does, StandIn, ok};
use tokio_util::sync::CancellationToken;

const MS: Duration = Duration::from_millis(1);

fn body(text: &'static str) -> Body {
    Body {
        name: text.to_owned(),
        content_type: "application/json".to_owned(),
        bytes: Bytes::from_static(text.as_bytes()),
    }
}

fn closed(users: u32, think_ms: u32) -> Loads {
    let think = MS * think_ms;
    Loads::Closed {
        users: vec![users],
        think: Think {
            min: think,
            max: think,
        },
    }
}

fn open(rate: f64) -> Loads {
    Loads::OpenRates {
        rates: vec![rate],
        arrival: Arrival::Fixed,
    }
}

/// A test of a second, on two workers, whose requests may take half of one.
fn test(server: &str, loads: Loads) -> LoadTest {
    let timing = Timing {
        duration: MS * 1000,
        ramp_up: Duration::ZERO,
        warm_up: Duration::ZERO,
        pause: Duration::ZERO,
        timeout: MS * 500,
        give_up: Duration::ZERO,
    };
    with_timing(server, loads, timing)
}

fn with_timing(server: &str, loads: Loads, timing: Timing) -> LoadTest {
    let connections = Connections {
        keep_alive: true,
        reconnect: Duration::ZERO,
        max_outstanding: 512,
    };
    let url = Target::predict_url(server, "digits", None).unwrap();
    LoadTest {
        plan: Plan::new(loads, &[2], timing, connections, 1).unwrap(),
        target: Arc::new(Target::new(&url, HeaderMap::new(), vec![body("[1]")]).unwrap()),
        objective: Objective::new(350.0, 400.0, 0.5).unwrap(),
        replicas: None,
    }
}

#[derive(Default)]
struct Seen {
    ticks: Vec<Tick>,
    troubled: Option<Probed>,
    cells: usize,
}

impl Watcher for Seen {
    fn troubled(&mut self, first: Probed) {
        self.troubled = Some(first);
    }
    fn tick(&mut self, tick: &Tick) {
        self.ticks.push(tick.clone());
    }
    fn cell(&mut self, _: &CellResult) {
        self.cells += 1;
    }
}

async fn run(test: &LoadTest) -> Report {
    test.run(&mut Seen::default(), &CancellationToken::new())
        .await
        .unwrap()
}

fn error(ended: Result<Report, RunError>) -> String {
    match ended {
        Ok(_) => panic!("it ran"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn users_who_wait_and_think_ask_as_often_as_that_allows() {
    let server = StandIn::start(|_| Does::Answers(MS * 50, 200, b"{}".to_vec()));
    let report = run(&test(&server.url(), closed(10, 50))).await;
    let cell = &report.cells[0];
    assert_eq!(
        cell.judgement.verdict,
        Verdict::Pass,
        "{:?}",
        cell.judgement
    );
    assert_eq!(cell.failures.total(), 0);
    // 10 users, one request each 100 ms and a little: at most 100, and most of them.
    assert!((60..=100).contains(&cell.requests), "{}", cell.requests);
    let p50 = cell.p50_ms.unwrap();
    assert!((50.0..80.0).contains(&p50), "{p50}");
    assert!((cell.rps - cell.requests as f64).abs() < 1e-6);
}

#[tokio::test]
async fn a_stalled_server_is_not_hidden_by_waiting_for_it() {
    // Answers at once, but for the 400 ms after its 100th request, in which it answers nobody.
    let stalls = Mutex::new(None::<Instant>);
    let server = StandIn::start(move |asked| {
        let mut stalls = stalls.lock().unwrap();
        if asked.number == 100 {
            *stalls = Some(Instant::now() + MS * 400);
        }
        let left = stalls.map_or(Duration::ZERO, |end| {
            end.saturating_duration_since(Instant::now())
        });
        Does::Answers(left, 200, Vec::new())
    });
    let mut test = test(&server.url(), open(200.0));
    let cell = &run(&test).await.cells[0];
    // Of 200 requests 80 came while it stalled and waited 200 ms on average: 40 more than that.
    assert_eq!(cell.requests, 200);
    let p95 = cell.p95_ms.unwrap();
    assert!((320.0..420.0).contains(&p95), "{p95}");
    let slow = cell
        .distribution
        .iter()
        .find(|(ms, _)| *ms > 200.0)
        .unwrap();
    assert!((0.7..0.9).contains(&slow.1), "{slow:?}");

    // As many at a time as two connections carry hides nothing either: it is the wait that counts.
    let stalls = Mutex::new(None::<Instant>);
    let server = StandIn::start(move |asked| {
        let mut stalls = stalls.lock().unwrap();
        if asked.number == 100 {
            *stalls = Some(Instant::now() + MS * 400);
        }
        let left = stalls.map_or(Duration::ZERO, |end| {
            end.saturating_duration_since(Instant::now())
        });
        Does::Answers(left, 200, Vec::new())
    });
    let url = Target::predict_url(&server.url(), "digits", None).unwrap();
    test.target = Arc::new(Target::new(&url, HeaderMap::new(), vec![body("[1]")]).unwrap());
    let few = Connections {
        max_outstanding: 2,
        ..*test.plan.connections()
    };
    test.plan = Plan::new(open(200.0), &[2], test.plan.timing().clone(), few, 1).unwrap();
    let cell = &run(&test).await.cells[0];
    assert_eq!(cell.requests, 200);
    assert!(cell.held_back > 0);
    let p95 = cell.p95_ms.unwrap();
    assert!((320.0..500.0).contains(&p95), "{p95}");
}

#[tokio::test]
async fn open_arrivals_come_at_their_rate_however_slow_the_answers() {
    let server = StandIn::start(|_| Does::Answers(MS * 300, 200, Vec::new()));
    let cell = &run(&test(&server.url(), open(100.0))).await.cells[0];
    assert_eq!(cell.requests, 100);
    assert!(cell.p50_ms.unwrap() >= 300.0);
}

#[tokio::test]
async fn a_dead_server_is_refused_at_once_with_what_to_do() {
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let begun = Instant::now();
    let test = test(&format!("http://{address}"), closed(2, 0));
    let told = error(
        test.run(&mut Seen::default(), &CancellationToken::new())
            .await,
    );
    assert!(
        told.contains(&address.to_string()) && told.contains("aegis serve"),
        "{told}"
    );
    assert!(begun.elapsed() < MS * 500, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_server_that_calls_the_request_wrong_is_asked_once() {
    for (status, hint) in [
        (401, "AEGIS_TOKEN"),
        (403, "AEGIS_TOKEN"),
        (404, "aegis models"),
        (415, "--content-type"),
        (422, "no such field"),
        (307, "redirects"),
    ] {
        let server = StandIn::start(move |_| {
            Does::Answers(
                Duration::ZERO,
                status,
                b"{\"error\":\"no such field\"}".to_vec(),
            )
        });
        let ended = test(&server.url(), closed(2, 0))
            .run(&mut Seen::default(), &CancellationToken::new())
            .await;
        assert!(matches!(
            ended,
            Err(RunError::Probe(ProbeError::Refused { .. }))
        ));
        let told = error(ended);
        assert!(
            told.contains(hint) && told.contains(&status.to_string()),
            "{told}"
        );
        assert_eq!(server.asked(), 1);
    }
}

#[tokio::test]
async fn half_dead_servers_end_in_time_with_each_failure_counted_by_kind() {
    type Half = fn() -> Does;
    let cases: [(Half, FailureKind); 5] = [
        (|| Does::IsSilent, FailureKind::Timeout),
        (
            || Does::Answers(Duration::ZERO, 503, b"busy".to_vec()),
            FailureKind::Status(503),
        ),
        (|| Does::ClosesMidBody, FailureKind::Closed),
        (|| Does::Closes, FailureKind::Closed),
        (|| Does::Babbles, FailureKind::NotHttp),
    ];
    for (does, kind) in cases {
        let server = StandIn::start(move |_| does());
        let mut seen = Seen::default();
        let begun = Instant::now();
        let test = test(&server.url(), closed(4, 20));
        let report = test
            .run(&mut seen, &CancellationToken::new())
            .await
            .unwrap();
        assert!(
            begun.elapsed() < test.plan.longest() + MS * 1500,
            "{kind}: {:?}",
            begun.elapsed()
        );
        assert_eq!(seen.troubled, Some(Probed::Troubled(kind)));
        let cell = &report.cells[0];
        assert_eq!(cell.judgement.verdict, Verdict::Fail);
        assert!(cell.requests >= 4);
        assert_eq!(
            cell.failures.of(kind),
            cell.requests,
            "{kind}: {}",
            cell.failures
        );
        assert!((cell.failure_percent - 100.0).abs() < 1e-9);
    }
}

#[tokio::test]
async fn a_server_that_stops_answering_midway_is_given_up_and_the_matrix_with_it() {
    let server = StandIn::start(|asked| {
        if asked.number < 50 {
            ok()
        } else {
            Does::IsSilent
        }
    });
    let timing = Timing {
        duration: Duration::from_secs(60),
        ramp_up: Duration::ZERO,
        warm_up: Duration::ZERO,
        pause: Duration::ZERO,
        timeout: MS * 300,
        give_up: MS * 1200,
    };
    let think = Think {
        min: MS * 20,
        max: MS * 20,
    };
    let loads = Loads::Closed {
        users: vec![4, 8],
        think,
    };
    let begun = Instant::now();
    let report = run(&with_timing(&server.url(), loads, timing)).await;
    assert!(
        begun.elapsed() < Duration::from_secs(6),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(report.cells.len(), 1);
    assert!(report.gave_up() && !report.stopped());
    let cell = &report.cells[0];
    assert_eq!(cell.ended, Ended::GaveUp);
    assert_eq!(cell.judgement.verdict, Verdict::Fail);
    assert!(
        cell.failures.of(FailureKind::Timeout) >= 3,
        "{}",
        cell.failures
    );
    assert!(cell.requests > cell.failures.total());
    assert!(cell.measured_seconds < 6.0);
}

#[tokio::test]
async fn a_stop_ends_at_once_with_what_was_measured_so_far() {
    let server = StandIn::start(|asked| {
        // One user is stuck: nobody waits for it.
        if asked.number == 20 {
            Does::IsSilent
        } else {
            Does::Answers(MS * 5, 200, Vec::new())
        }
    });
    let mut test = test(&server.url(), closed(4, 5));
    let timing = Timing {
        duration: Duration::from_secs(600),
        timeout: Duration::from_secs(300),
        ..test.plan.timing().clone()
    };
    test.plan = Plan::new(closed(4, 5), &[2, 4], timing, *test.plan.connections(), 1).unwrap();
    let stop = CancellationToken::new();
    let begun = Instant::now();
    let stopping = async {
        tokio::time::sleep(MS * 1300).await;
        stop.cancel();
    };
    let mut seen = Seen::default();
    let (report, ()) = tokio::join!(test.run(&mut seen, &stop), stopping);
    let report = report.unwrap();
    assert!(begun.elapsed() < MS * 2500, "{:?}", begun.elapsed());
    assert!(report.stopped() && !report.gave_up());
    assert_eq!((report.cells.len(), seen.cells), (1, 1));
    let cell = &report.cells[0];
    assert_eq!(cell.ended, Ended::Stopped);
    assert!(cell.requests > 20, "{}", cell.requests);
    assert!(
        (0.8..2.0).contains(&cell.measured_seconds),
        "{}",
        cell.measured_seconds
    );
    assert!(
        cell.cautions
            .iter()
            .any(|caution| caution.contains("of 600 s")),
        "{:?}",
        cell.cautions
    );
}

#[tokio::test]
async fn a_stop_before_anything_was_measured_leaves_no_row() {
    let server = StandIn::start(|_| ok());
    let test = test(&server.url(), closed(2, 10));
    let timing = Timing {
        warm_up: Duration::from_secs(60),
        ..test.plan.timing().clone()
    };
    let test = with_timing(&server.url(), closed(2, 10), timing);
    let stop = CancellationToken::new();
    let stopping = async {
        tokio::time::sleep(MS * 300).await;
        stop.cancel();
    };
    let mut seen = Seen::default();
    let (report, ()) = tokio::join!(test.run(&mut seen, &stop), stopping);
    let report = report.unwrap();
    assert!(report.cells.is_empty() && report.stopped());
    assert_eq!(report.verdict(), Verdict::Fail);
}

#[tokio::test]
async fn ramp_and_warm_up_do_not_count() {
    // Slow for its first 30 requests, as a cold server is.
    let server = StandIn::start(|asked| {
        let cold = if asked.number < 30 {
            MS * 200
        } else {
            Duration::ZERO
        };
        Does::Answers(cold, 200, Vec::new())
    });
    let test = test(&server.url(), open(50.0));
    let timing = Timing {
        ramp_up: MS * 500,
        warm_up: MS * 1000,
        ..test.plan.timing().clone()
    };
    let test = with_timing(&server.url(), open(50.0), timing);
    let mut seen = Seen::default();
    let report = test
        .run(&mut seen, &CancellationToken::new())
        .await
        .unwrap();
    let cell = &report.cells[0];
    assert_eq!(cell.requests, 50);
    // Half of the rate during the ramp.
    assert!(
        (60..=65).contains(&cell.warm_up_requests),
        "{}",
        cell.warm_up_requests
    );
    assert!(cell.p99_ms.unwrap() < 150.0, "{:?}", cell.p99_ms);
    assert!(seen.ticks.iter().any(|tick| tick.phase == Phase::WarmUp));
}

#[tokio::test]
async fn bodies_take_turns_with_their_types_and_the_token_goes_with_all() {
    let came = Arc::new(Mutex::new(BTreeSet::new()));
    let server = StandIn::start({
        let came = Arc::clone(&came);
        move |asked| {
            let has = |word: &str| asked.head.to_ascii_lowercase().contains(word);
            came.lock().unwrap().insert((
                String::from_utf8_lossy(&asked.body).into_owned(),
                has("content-type: text/x-"),
                has("authorization: bearer t0ken"),
                asked
                    .head
                    .starts_with("POST /predict?identifier=digits HTTP/1.1"),
            ));
            ok()
        }
    });
    let mut test = test(&server.url(), closed(4, 10));
    let headers = HeaderMap::from_iter([(
        http::header::AUTHORIZATION,
        HeaderValue::from_static("Bearer t0ken"),
    )]);
    let typed = |text| Body {
        content_type: format!("text/x-{text}"),
        ..body(text)
    };
    let bodies = ["a", "b", "c"].map(typed).to_vec();
    test.target = Arc::new(Target::new(test.target.url(), headers, bodies).unwrap());
    run(&test).await;
    let all = ["a", "b", "c"].map(|text| (text.to_owned(), true, true, true));
    assert_eq!(*came.lock().unwrap(), BTreeSet::from(all));
}

#[tokio::test]
async fn connections_are_kept_unless_they_are_not_to_be() {
    let server = StandIn::start(|_| ok());
    let mut test = test(&server.url(), closed(4, 10));
    let kept = run(&test).await.cells[0].requests;
    // Two workers' and that of the first look; a user may find none free and open one.
    assert!(
        kept > 100 && server.connections() <= 6,
        "{} for {kept}",
        server.connections()
    );

    for change in [
        Connections {
            keep_alive: false,
            ..*test.plan.connections()
        },
        Connections {
            reconnect: MS * 100,
            ..*test.plan.connections()
        },
    ] {
        let before = server.connections();
        test.plan = Plan::new(closed(4, 10), &[2], test.plan.timing().clone(), change, 1).unwrap();
        let requests = run(&test).await.cells[0].requests;
        let made = server.connections() - before;
        assert!(made >= 10, "{made} for {requests}");
        assert!(
            change.keep_alive || made as u64 >= requests,
            "{made} for {requests}"
        );
    }
}

/// Three replicas at first, five from the second reading of a cell on.
#[derive(Default)]
struct Growing(Mutex<u32>);

impl ReplicaSource for Growing {
    fn replicas(&self) -> Reading<'_> {
        let mut readings = self.0.lock().unwrap();
        *readings += 1;
        // Once before any load, once before the cell, and once as it begins.
        let replicas = if *readings > 3 { 5 } else { 3 };
        Box::pin(async move { Ok(replicas) })
    }
}

struct Broken;

impl ReplicaSource for Broken {
    fn replicas(&self) -> Reading<'_> {
        Box::pin(async { Err(ReplicaError("may not get deployments".to_owned())) })
    }
}

/// Keeps what it is told, and answers three replicas and from the second second on seven; or nothing.
struct Model {
    told: Mutex<Vec<Driven>>,
    knows: bool,
}

impl ReplicaModel for Model {
    fn about(&self) -> String {
        "a test's model".to_owned()
    }

    fn replicas(&self, driven: &Driven) -> Result<Vec<u32>, ReplicaError> {
        self.told.lock().unwrap().push(driven.clone());
        if !self.knows {
            return Err(ReplicaError("nobody knows".to_owned()));
        }
        let seconds = 0..driven.each_second.len();
        Ok(seconds.map(|at| if at == 0 { 3 } else { 7 }).collect())
    }
}

fn model(knows: bool) -> Arc<Model> {
    let told = Mutex::new(Vec::new());
    Arc::new(Model { told, knows })
}

/// A test of two and a half seconds after one of ramp.
fn with_ramp(server: &str, loads: Loads) -> LoadTest {
    let timing = Timing {
        duration: MS * 2500,
        ramp_up: MS * 1000,
        ..test(server, closed(4, 10)).plan.timing().clone()
    };
    with_timing(server, loads, timing)
}

#[tokio::test]
async fn replicas_come_from_their_source() {
    let server = StandIn::start(|_| ok());
    let mut test = with_ramp(&server.url(), closed(4, 10));
    let report = run(&test).await;
    assert_eq!(
        (report.replicas_from, report.cells[0].replicas),
        (None, None)
    );
    test.replicas = Some(Origin::Watched(Arc::new(Growing::default())));
    let report = run(&test).await;
    assert_eq!(report.replicas_from, Some(ReplicasFrom::Cluster));
    let replicas = report.cells[0].replicas.unwrap();
    assert_eq!(
        (replicas.initial, replicas.peak, replicas.scale_ups),
        (3, 5, 1)
    );
}

#[tokio::test]
async fn a_model_is_told_the_users_of_a_closed_loop_and_its_replicas_are_called_simulated() {
    let server = StandIn::start(|_| ok());
    let mut test = with_ramp(&server.url(), closed(4, 10));
    let model = model(true);
    test.replicas = Some(Origin::Modelled(Arc::clone(&model) as _));
    let report = run(&test).await;
    let by = "a test's model".to_owned();
    assert_eq!(report.replicas_from, Some(ReplicasFrom::Simulated { by }));
    let cell = &report.cells[0];
    let replicas = cell.replicas.unwrap();
    assert_eq!((replicas.initial, replicas.peak), (3, 7));
    assert_eq!((replicas.last, replicas.scale_ups), (7, 1));
    assert!(cell.series.iter().all(|point| point.replicas == Some(7)));
    let csv = aegis_loadtest::csv::table(&report);
    assert!(csv.contains("\n# replicas are simulated"), "{csv}");
    let told = model.told.lock().unwrap();
    let [driven] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(driven.kind, DrivenKind::Users { think: MS * 10 });
    // Half of them have come in the middle of the ramp's second.
    assert_eq!(driven.each_second[..3], [2.0, 4.0, 4.0]);
}

#[tokio::test]
async fn a_model_is_told_the_requests_of_an_open_loop_as_they_were_measured() {
    let server = StandIn::start(|_| ok());
    let mut test = with_ramp(&server.url(), open(40.0));
    let model = model(true);
    test.replicas = Some(Origin::Modelled(Arc::clone(&model) as _));
    let requests = run(&test).await.cells[0].requests;
    let told = model.told.lock().unwrap();
    assert_eq!(told[0].kind, DrivenKind::Requests);
    let begun: f64 = told[0].each_second.iter().skip(1).sum();
    assert!(
        (begun - requests as f64).abs() < 40.0,
        "{begun} of {requests}"
    );
    assert!(told[0].each_second[0] < 35.0, "{told:?}");
}

#[tokio::test]
async fn a_model_that_cannot_tell_leaves_the_columns_empty_with_the_reason() {
    let server = StandIn::start(|_| ok());
    let mut test = with_ramp(&server.url(), closed(4, 10));
    test.replicas = Some(Origin::Modelled(model(false)));
    let report = run(&test).await;
    let cell = &report.cells[0];
    assert_eq!(cell.replicas, None);
    assert!(
        cell.cautions
            .iter()
            .any(|words| words == "no replicas: nobody knows")
    );
}

#[tokio::test]
async fn replicas_that_cannot_be_read_refuse_the_test_before_any_request() {
    let server = StandIn::start(|_| ok());
    let mut test = test(&server.url(), closed(2, 10));
    test.replicas = Some(Origin::Watched(Arc::new(Broken)));
    let told = error(
        test.run(&mut Seen::default(), &CancellationToken::new())
            .await,
    );
    assert!(told.contains("may not get"), "{told}");
    assert_eq!(server.asked(), 0);
}
