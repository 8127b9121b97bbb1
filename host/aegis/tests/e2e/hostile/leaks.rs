//! What one request leaves for the next, and what instances share.

use std::collections::BTreeSet;

use crate::harness::{Package, Start};

#[tokio::test]
async fn no_memory_of_one_request_is_there_for_another_of_its_model_or_of_another() {
    // Few instances, so that their memory is used again and again.
    let server = Start::new()
        .flag("--max-instances", "4")
        .flag("--warm-instances", "1")
        .ready()
        .await;
    for name in ["one", "two"] {
        let package = Package::hostile(name, "timeout_ms = 20000\nmemory_mib = 128");
        server.upload(&package).await.is(201);
    }
    for round in 0..4 {
        for model in ["one", "two"] {
            let written = server
                .ask(&format!("{model}&do=secret&n=24"), "")
                .await
                .ok();
            assert_eq!(written["written"], 24 << 17);
        }
        for model in ["one", "two", "one", "two"] {
            let answer = server.ask(&format!("{model}&do=scan&n=40"), "").await.ok();
            assert!(answer["scanned"].as_u64().unwrap() >= 40 << 17, "{answer}");
            assert_eq!(answer["found"], 0, "round {round}, {model}");
        }
    }
}

#[tokio::test]
async fn an_instance_that_is_used_again_finds_what_it_left() {
    // So the scan can find, and a manifest that asks for reuse gets what it asks for.
    let server = Start::new().ready().await;
    let reused = Package::hostile("hostile", "timeout_ms = 20000\nmemory_mib = 128")
        .and("[sandbox]\nreuse = true");
    server.upload(&reused).await.is(201);
    let mut found = 0;
    for _ in 0..4 {
        server.ask("hostile&do=secret&n=8", "").await.is(200);
        let answer = server.ask("hostile&do=scan&n=1", "").await.ok();
        found += answer["found"].as_u64().unwrap();
    }
    assert!(found > 1 << 17, "{found}");
}

#[tokio::test]
async fn no_two_instances_draw_the_same_random_numbers() {
    let server = Start::new().ready().await;
    server
        .upload(&Package::hostile("hostile", ""))
        .await
        .is(201);
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        let answer = server.ask("hostile&do=random", "").await.ok();
        assert!(seen.insert(answer["random"].to_string()), "{answer}");
    }
}
