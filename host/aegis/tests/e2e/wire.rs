//! What comes over the wire that no HTTP library would send, and how connections end.

use crate::harness::{Start, eventually};

#[tokio::test]
async fn a_client_that_dawdles_with_its_head_is_let_go() {
    let server = Start::new()
        .flag("--header-read-timeout-ms", "500")
        .ready()
        .await;
    let mut silent = server.raw().await;
    // The beginning of HTTP/2, or a very slow POST.
    let mut undecided = server.raw().await;
    undecided.send("P").await;
    let mut dawdling = server.raw().await;
    dawdling
        .send("GET /livez HTTP/1.1\r\nhost: a\r\nx-slow: ")
        .await;
    let answer = dawdling.read_to_end().await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
        "{answer}"
    );
    assert_eq!(silent.read_to_end().await, "");
    assert_eq!(undecided.read_to_end().await, "");
    server.get("/livez").await.is(200);
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let server = Start::new().flag("--max-header-kib", "8").ready().await;
    let mut raw = server.raw().await;
    let large = "x".repeat(20 << 10);
    raw.send(format!(
        "GET /livez HTTP/1.1\r\nhost: a\r\nx-large: {large}\r\n\r\n"
    ))
    .await;
    let answer = raw.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    server.get("/livez").await.is(200);
}

#[tokio::test]
async fn what_is_not_http_is_answered_400_and_closed() {
    let server = Start::new().ready().await;
    for bytes in [
        "\0\u{1}\u{2}\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /livez HTTP/1.1\r\nno colon\r\n\r\n",
    ] {
        let mut raw = server.raw().await;
        raw.send(bytes).await;
        let answer = raw.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bytes:?}: {answer}");
    }
    server.get("/livez").await.is(200);
}

#[tokio::test]
async fn an_http_1_0_client_is_answered_and_the_connection_closed() {
    let server = Start::new().examples().ready().await;
    let mut raw = server.raw().await;
    raw.send("POST /predict?identifier=spam HTTP/1.0\r\ncontent-type: text/plain\r\ncontent-length: 27\r\n\r\nre: patch for the tokenizer").await;
    let answer = raw.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    assert!(answer.contains("\"spam\":false"), "{answer}");
}

#[tokio::test]
async fn requests_sent_together_on_one_connection_are_answered_in_order() {
    let server = Start::new().examples().ready().await;
    let mut raw = server.raw().await;
    let ask = |id: &str, text: &str| {
        format!(
            "POST /predict?identifier=spam HTTP/1.1\r\nhost: a\r\nx-request-id: {id}\r\n\
             content-type: text/plain\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        )
    };
    let spam =
        "congratulations! you have won $1,000,000 cash. click here now to claim your free prize!!!";
    raw.send(
        [
            ask("one", spam),
            ask("two", ""),
            ask("three", "re: patch for the tokenizer"),
        ]
        .concat(),
    )
    .await;
    let answers = raw.read_until("\"spam\":false", 1).await;
    let mut parts = answers.split("HTTP/1.1 ").skip(1);
    for (status, id, body) in [
        ("200", "one", "\"spam\":true"),
        ("422", "two", "invalid_input"),
        ("200", "three", "\"spam\":false"),
    ] {
        let part = parts.next().unwrap();
        assert!(
            part.starts_with(status) && part.contains(&format!("x-request-id: {id}")),
            "{part}"
        );
        assert!(part.contains(body), "{part}");
    }
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_go_on_is_told() {
    let server = Start::new().examples().ready().await;
    let mut raw = server.raw().await;
    raw.send("POST /predict?identifier=spam HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-type: text/plain\r\ncontent-length: 27\r\n\r\n").await;
    raw.read_until("HTTP/1.1 100 ", 1).await;
    raw.send("re: patch for the tokenizer").await;
    let answer = raw.read_until("\"spam\":false", 1).await;
    assert!(answer.contains("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_place() {
    let server = Start::new().flag("--max-connections", "2").ready().await;
    let first = server.raw().await;
    let second = server.raw().await;
    let mut third = server.raw().await;
    third
        .send("GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await;
    let answered = tokio::spawn(async move { third.read_to_end().await });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(!answered.is_finished());
    drop((first, second));
    assert!(answered.await.unwrap().starts_with("HTTP/1.1 200 "));
    eventually("room again", async || {
        (server.get("/livez").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn http_2_is_spoken_to_who_begins_with_it() {
    let server = Start::new()
        .flag("--header-read-timeout-ms", "500")
        .ready()
        .await;
    let mut raw = server.raw().await;
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    raw.send([preface.as_slice(), &settings].concat()).await;
    // The server's SETTINGS, and its acknowledgement of ours (RFC 9113, 6.5).
    raw.read_until("\0\0\0\u{4}\u{1}\0\0\0\0", 1).await;
}
