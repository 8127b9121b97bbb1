//! Uploads made to be too much, to be in each other's way, or to write where they must not.

use std::time::{Duration, Instant};

use reqwest::{
    Method,
    multipart::{Form, Part},
};

use crate::harness::{Answer, Package, Server, Start, send};

/// A version of the model `raw` that answers these eight letters.
fn answering(letters: &str) -> Package {
    assert_eq!(letters.len(), 8);
    Package::raw("raw", &[("\"answered\"", &format!("\"{letters}\""))])
}

/// Posts a body that no client would build.
async fn post(server: &Server, body: impl Into<reqwest::Body>) -> Answer {
    let request = server
        .request(Method::POST, "/v1/models/raw/versions")
        .header("content-type", "multipart/form-data; boundary=cut");
    send(request.body(body)).await
}

fn part(head: &[u8], body: &[u8]) -> Vec<u8> {
    let disposition = b"--cut\r\ncontent-disposition: form-data; name=\"file\"; filename=\"";
    [disposition, head, b"\"\r\n\r\n", body, b"\r\n"].concat()
}

fn only(head: &[u8], body: &[u8]) -> Vec<u8> {
    [part(head, body), b"--cut--\r\n".to_vec()].concat()
}

/// Nothing of it is there, outside the data folder neither, and the next upload is taken.
async fn stands(server: &Server) {
    let listed = server.get("/v1/models").await.ok();
    assert!(listed["models"].as_array().unwrap().is_empty(), "{listed}");
    server.upload(&answering("honestly")).await.is(201);
    assert_eq!(server.ask("raw", "").await.is(200).text(), "honestly");
}

#[tokio::test]
async fn two_uploads_of_one_name_at_once_are_two_versions() {
    let server = Start::new().ready().await;
    let (one, two) = (answering("first-.."), answering("second.."));
    let (one, two) = tokio::join!(server.upload(&one), server.upload(&two));
    let numbers = [one, two].map(|answer| answer.is(201).json()["version"].as_u64().unwrap());
    assert!(numbers == [1, 2] || numbers == [2, 1], "{numbers:?}");
    let shown = server.get("/v1/models/raw").await.ok();
    assert_eq!(shown["versions"].as_array().unwrap().len(), 2);
    let stable = shown["traffic"]["stable"].as_u64().unwrap();
    for (number, letters) in numbers.into_iter().zip(["first-..", "second.."]) {
        let asked = format!("raw&version={number}");
        assert_eq!(server.ask(&asked, "").await.is(200).text(), letters);
        if number == stable {
            assert_eq!(server.ask("raw", "").await.is(200).text(), letters);
        }
    }
}

#[tokio::test]
async fn the_same_content_twice_at_once_is_one_version() {
    let server = Start::new().ready().await;
    for round in 0..3 {
        let package = answering(&format!("round-{round}."));
        let (one, two) = tokio::join!(server.upload(&package), server.upload(&package));
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 201], "{} {}", one.text(), two.text());
        for answer in [one, two] {
            assert_eq!(answer.json()["version"], round + 1);
        }
    }
    let shown = server.get("/v1/models/raw").await.ok();
    assert_eq!(shown["versions"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn no_part_is_written_elsewhere_whatever_its_name() {
    let server = Start::new().ready().await;
    let deep = "a/".repeat(1000) + "x";
    let long = "x".repeat(100_000);
    for name in [
        "/tmp/aegis-escaped",
        "//tmp/aegis-escaped",
        "..",
        "../../../../../../tmp/aegis-escaped",
        "a/..",
        "a/./b",
        "..\\..\\aegis-escaped",
        "\\\\host\\share",
        "C:aegis-escaped",
        "model.toml:stream",
        "a//b",
        "a/",
        &deep,
        &long,
    ] {
        let answer = post(&server, only(name.as_bytes(), b"name = \"raw\"")).await;
        answer.refused(400, "invalid_file_name");
        assert!(answer.body.len() < 4 << 10, "{}", answer.body.len());
    }
    // A name with a byte that no header may have, and one that is no UTF-8.
    for name in [&b"model.toml\0"[..], b"\x7f", b"\xff\xfe.toml", b"a\r\nb"] {
        let answer = post(&server, only(name, b"name = \"raw\"")).await;
        assert!((400..500).contains(&answer.status), "{}", answer.text());
        assert!(answer.json()["code"].is_string());
    }
    assert!(!std::path::Path::new("/tmp/aegis-escaped").exists());
    stands(&server).await;
}

#[tokio::test]
async fn a_name_that_only_looks_like_the_manifests_is_not_the_manifest() {
    let server = Start::new().ready().await;
    for name in [
        "mоdel.toml",
        "model.toml.",
        "model.toml ",
        " model.toml",
        "MODEL.TOML",
        "ｍodel.toml",
        "model.toml\u{200b}",
        "x/model.toml",
    ] {
        let answer = post(&server, only(name.as_bytes(), b"name = \"raw\"")).await;
        assert!(
            [400, 422].contains(&answer.status),
            "{name:?}: {}",
            answer.text()
        );
        let code = answer.json()["code"].as_str().unwrap().to_owned();
        assert!(
            ["missing_manifest", "invalid_file_name"].contains(&&*code),
            "{name:?}: {code}"
        );
    }
    // Two names of one file, where the file system ignores case.
    for (one, other) in [
        ("a.onnx", "A.onnx"),
        ("a", "a"),
        ("a", "a/b"),
        ("B/c", "b/C"),
    ] {
        let body = [part(one.as_bytes(), b"1"), only(other.as_bytes(), b"2")].concat();
        post(&server, body).await.refused(422, "duplicate_file");
    }
    stands(&server).await;
}

#[tokio::test]
async fn a_package_of_too_much_is_refused_before_it_is_kept() {
    let server = Start::new().ready().await;
    let manifest = vec![b'#'; 10 << 20];
    post(&server, only(b"model.toml", &manifest))
        .await
        .refused(413, "manifest_too_large");
    let many: Vec<u8> = (0..10_000)
        .flat_map(|n| part(format!("file-{n}").as_bytes(), b"x"))
        .collect();
    let start = Instant::now();
    let answer = post(&server, [&many[..], b"--cut--\r\n"].concat()).await;
    assert!(
        answer.status == 413 || answer.status == 422,
        "{}",
        answer.text()
    );
    answer.refused(answer.status, "too_many_files");
    assert!(start.elapsed() < Duration::from_secs(20));
    stands(&server).await;
}

#[tokio::test]
async fn what_never_becomes_a_part_is_not_kept() {
    let server = Start::new().ready().await;
    let header = [&b"--cut\r\nx-long: "[..], &vec![b'x'; 48 << 20]].concat();
    for body in [vec![b'-'; 48 << 20], header] {
        let message = pressed(&server, &body).await;
        assert!(message.contains("upload_unreadable"), "{message}");
    }
    // Many headers, each of which fits.
    let many = "x-a: b\r\n".repeat(1000);
    let body = format!("--cut\r\n{many}\r\n\r\n--cut--\r\n");
    post(&server, body).await.refused(400, "upload_incomplete");
    stands(&server).await;
}

/// What the server says of this body, having kept little of it.
async fn pressed(server: &Server, body: &[u8]) -> String {
    let before = server.memory_kib("VmHWM");
    let mut raw = server.raw().await;
    raw.send(format!(
        "POST /v1/models/raw/versions HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\
         content-type: multipart/form-data; boundary=cut\r\ncontent-length: {}\r\n\r\n",
        server.address,
        body.len()
    ))
    .await;
    for piece in body.chunks(64 << 10) {
        if !raw.try_send(piece).await {
            break;
        }
    }
    let answer = raw.read_to_end().await;
    let kept = server.memory_kib("VmHWM") - before;
    assert!(kept < 24 << 10, "{kept} KiB more memory");
    answer
}

#[tokio::test]
async fn files_of_no_bytes_are_told_apart_from_files_that_are_not_there() {
    let server = Start::new().ready().await;
    let manifest = "name = \"raw\"\nhandler = \"handler.wasm\"\n";
    let empty = Package::new("raw", manifest).file("handler.wasm", Vec::new());
    server.upload(&empty).await.refused(422, "empty_file");
    let missing = Package::new("raw", manifest);
    server.upload(&missing).await.refused(422, "missing_files");
    let form = Form::new().part("file", Part::bytes(Vec::new()).file_name("model.toml"));
    let request = server.request(Method::POST, "/v1/models/raw/versions");
    send(request.multipart(form))
        .await
        .refused(422, "invalid_manifest");
    stands(&server).await;
}
