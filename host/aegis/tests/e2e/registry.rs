//! Versions, from the command line to the store: signed and refused, compared, deleted, collected;
//! and the same in a bucket as in a folder.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::cli::aegis;
use crate::harness::{Aegis, Package, Server, Start, complained, eventually, said};

#[path = "../../../registry/tests/registry/tools.rs"]
pub(crate) mod tools;

use tools::{S3, tool};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Makes a key as docs/registry.md does, by the tool's own library.
fn make_key(folder: &Path, name: &str) -> Option<()> {
    let python = tool("model-signing/bin/python")?;
    let code = "
import sys
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives import serialization as s
key = ec.generate_private_key(ec.SECP256R1())
open(sys.argv[1] + '.pem', 'wb').write(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.TraditionalOpenSSL, s.NoEncryption()))
open(sys.argv[1] + '.pub.pem', 'wb').write(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
";
    let made = Command::new(python)
        .args(["-c", code])
        .arg(folder.join(name))
        .status()
        .unwrap();
    assert!(made.success());
    Some(())
}

/// The package `spam` in a folder, with that threshold.
fn spam(folder: &Path, threshold: &str) -> String {
    let path = folder.join(format!("spam-{threshold}"));
    std::fs::create_dir_all(&path).unwrap();
    Package::example("spam")
        .replacing("\"0.5\"", &format!("\"{threshold}\""))
        .write_to(&path);
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn with_trusted_keys_only_what_they_signed_is_served() {
    let folder = tempfile::tempdir().unwrap();
    if make_key(folder.path(), "release").is_none() {
        return;
    }
    make_key(folder.path(), "mallory").unwrap();
    let key = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let server = Start::new()
        .flag("--trusted-keys", &key("release.pub.pem"))
        .ready()
        .await;
    let package = spam(folder.path(), "0.4");

    let complaint = complained(&aegis(&server, &["push", &package]).await);
    assert!(
        complaint.contains("unsigned_package") && complaint.contains("aegis sign"),
        "{complaint}"
    );
    said(&aegis(&server, &["sign", &package, "--key", &key("mallory.pem")]).await);
    let complaint = complained(&aegis(&server, &["push", &package]).await);
    assert!(complaint.contains("untrusted_key"), "{complaint}");

    let signed = said(
        &aegis(
            &server,
            &["sign", &package, "--key", &key("release.pem"), "-o", "json"],
        )
        .await,
    );
    let pushed = said(&aegis(&server, &["push", &package]).await);
    assert!(pushed.contains("spam version 1 uploaded"), "{pushed}");
    let shown = said(&aegis(&server, &["models", "spam"]).await);
    assert!(
        shown.contains("SIGNED") && shown.contains("by release"),
        "{shown}"
    );
    let shown = server.get("/v1/models/spam/versions/1").await.ok();
    assert_eq!(shown["signature"]["state"], "verified");
    assert_eq!(shown["signature"]["name"], "release");
    assert_eq!(shown["signature"]["key"], json(&signed)["key"]);
    let listed = server.get("/v1/models").await.ok();
    assert_eq!(
        listed["models"][0]["versions"][0]["signature"],
        shown["signature"]
    );
    assert_eq!(server.ask("spam", "hello").await.status, 200);

    // The tool agrees.
    let verified = Command::new(tool("model-signing/bin/model_signing").unwrap())
        .args([
            "verify",
            "key",
            &package,
            "--public_key",
            &key("release.pub.pem"),
        ])
        .args(["--signature", &format!("{package}/model.sig")])
        .status()
        .unwrap();
    assert!(verified.success());

    // Altered after signing.
    let manifest = Path::new(&package).join("model.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("0.4", "0.3")).unwrap();
    let complaint = complained(&aegis(&server, &["push", &package]).await);
    assert!(
        complaint.contains("altered_after_signing") && complaint.contains("`model.toml`"),
        "{complaint}"
    );
}

#[tokio::test]
async fn a_version_that_was_there_before_the_keys_is_shown_and_not_served() {
    let folder = tempfile::tempdir().unwrap();
    if make_key(folder.path(), "release").is_none() {
        return;
    }
    let data = folder.path().join("data");
    let server = Start::new().data(&data).ready().await;
    said(&aegis(&server, &["push", &spam(folder.path(), "0.4")]).await);
    server.stop().await;
    let key = folder.path().join("release.pub.pem");
    let server = Start::new()
        .data(&data)
        .flag("--trusted-keys", key.to_str().unwrap())
        .ready()
        .await;
    let refused = server.ask("spam", "hello").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("not signed"), "{}", refused.text());
    let shown = said(&aegis(&server, &["models", "spam"]).await);
    assert!(
        shown.contains("refused") && shown.contains("version 1: the package is not signed"),
        "{shown}"
    );
}

#[tokio::test]
async fn versions_are_compared_deleted_and_collected_and_it_is_known_who_did() {
    let folder = tempfile::tempdir().unwrap();
    let server = Start::new().ready().await;
    everyday(&server, folder.path()).await;
}

#[tokio::test]
async fn a_bucket_serves_as_a_folder_does_and_outlives_the_server() {
    let Some(s3) = S3::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let start = || Start::new().replica("s3://models/team/a", s3.variables());
    let server = start().ready().await;
    everyday(&server, folder.path()).await;
    server.stop().await;
    // Another machine: nothing is there but the bucket.
    let server = start().ready().await;
    let shown = said(&aegis(&server, &["models", "spam", "-o", "json"]).await);
    assert_eq!(json(&shown)["traffic"]["stable"], 2);
    assert_eq!(server.ask("spam", "hello").await.status, 200);
}

/// What a team does with versions.
async fn everyday(server: &Server, folder: &Path) {
    for threshold in ["0.4", "0.6", "0.7"] {
        said(&aegis(server, &["push", &spam(folder, threshold)]).await);
    }
    said(&aegis(server, &["promote", "spam", "2"]).await);

    let diff = said(&aegis(server, &["diff", "spam", "1", "2"]).await);
    let row = diff
        .lines()
        .find(|line| line.starts_with("config.threshold"))
        .unwrap();
    assert!(row.contains("\"0.4\"") && row.contains("\"0.6\""), "{diff}");
    assert!(
        diff.contains("model.toml") && !diff.contains("spam.onnx"),
        "{diff}"
    );
    let diff = json(&said(
        &aegis(server, &["diff", "spam", "1", "2", "-o", "json"]).await,
    ));
    assert_eq!(diff["manifest"][0]["key"], "config.threshold");
    assert_eq!(diff["files"].as_array().unwrap().len(), 1);
    let same = said(&aegis(server, &["diff", "spam", "2", "2"]).await);
    assert!(same.contains("the same content"), "{same}");
    let complaint = complained(&aegis(server, &["diff", "spam", "1", "9"]).await);
    assert!(complaint.contains("version_not_found"), "{complaint}");

    // What serves stays.
    let complaint = complained(&aegis(server, &["rm", "spam", "2"]).await);
    assert!(complaint.contains("version_in_use"), "{complaint}");
    let complaint = complained(&aegis(server, &["rm", "spam"]).await);
    assert!(complaint.contains("--all"), "{complaint}");
    let gone = said(&aegis(server, &["rm", "spam", "1"]).await);
    assert!(gone.contains("spam version 1 is deleted"), "{gone}");

    // Of version 1 its manifest is left, which is young.
    let young = said(&aegis(server, &["gc"]).await);
    assert!(
        young.contains("removed 0 files") && young.contains("kept 1 files"),
        "{young}"
    );
    let looked = json(&said(
        &aegis(server, &["gc", "--dry-run", "--grace", "0", "-o", "json"]).await,
    ));
    assert_eq!(
        (&looked["blobs"], &looked["young"]),
        (&1.into(), &0.into()),
        "{looked}"
    );
    let removed = said(&aegis(server, &["gc", "--grace", "0"]).await);
    assert!(
        removed.contains("removed 1 files that no version names"),
        "{removed}"
    );
    let again = json(&said(
        &aegis(server, &["gc", "--grace", "0", "-o", "json"]).await,
    ));
    assert_eq!(again["blobs"], 0);

    let history = said(&aegis(server, &["history", "spam"]).await);
    let whats: Vec<_> = history
        .lines()
        .skip(1)
        .map(|line| {
            line.split_whitespace()
                .skip(2)
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    assert!(whats.contains(&"set_stable 2".to_owned()), "{history}");
    assert!(whats.contains(&"delete_version 1".to_owned()), "{history}");
    assert!(whats.contains(&"upload 3".to_owned()), "{history}");
    let history = json(&said(
        &aegis(server, &["history", "spam", "-o", "json"]).await,
    ));
    assert!(
        history
            .as_array()
            .unwrap()
            .iter()
            .all(|event| event["at"].is_string())
    );
    assert_eq!(server.ask("spam", "hello").await.status, 200);
}

#[tokio::test]
async fn a_store_that_cannot_be_is_told_at_the_start() {
    let serve = |store: &'static str| {
        Aegis::new(&["serve", "--listen", "127.0.0.1:0", "--store", store]).run()
    };
    let complaint = complained(&serve("ftp://models").await);
    assert!(
        complaint.contains("store") && complaint.contains("s3://BUCKET"),
        "{complaint}"
    );
    let complaint = complained(&serve("s3://key:secret@models").await);
    assert!(
        complaint.contains("the cloud's own variables"),
        "{complaint}"
    );
}

#[tokio::test]
async fn what_one_replica_is_told_holds_on_the_others_and_outlives_the_store() {
    let Some(mut s3) = S3::start().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let replica = || Start::new().replica("s3://models", s3.variables()).ready();
    let (one, other) = (replica().await, replica().await);
    let answers = async |server: &Server, version: u64| {
        eventually("another replica's version", async || {
            let answer = server.ask("spam", "hello").await;
            let is_it =
                answer.status == 200 && answer.header("aegis-model-version") == version.to_string();
            is_it.then_some(())
        })
        .await
    };
    said(&aegis(&one, &["push", &spam(folder.path(), "0.4")]).await);
    answers(&other, 1).await;
    said(&aegis(&other, &["push", &spam(folder.path(), "0.6"), "--promote"]).await);
    answers(&one, 2).await;
    // One that starts late.
    let late = replica().await;
    answers(&late, 2).await;
    said(&aegis(&one, &["rm", "spam", "1"]).await);
    eventually("the version gone", async || {
        let gone = other.get("/v1/models/spam").await.ok();
        (gone["versions"].as_array().unwrap().len() == 1
            && !gone["loaded_versions"]
                .as_array()
                .unwrap()
                .contains(&1.into()))
        .then_some(())
    })
    .await;
    let health = other.get("/health").await.ok();
    assert_eq!(health["store"]["reachable"], true);
    assert_eq!(
        other.metrics().await.sum("aegis_store_reachable", &[]),
        Some(1.0)
    );

    s3.stop();
    eventually("the store away", async || {
        let health = other.get("/health").await.ok();
        (health["store"]["reachable"] == false).then_some(())
    })
    .await;
    assert_eq!(
        other.metrics().await.sum("aegis_store_reachable", &[]),
        Some(0.0)
    );
    // It serves, and is ready.
    answers(&other, 2).await;
    assert_eq!(other.get("/readyz").await.status, 200);
    let health = other.get("/health").await.ok();
    assert!(
        health["store"]["error"].as_str().unwrap().contains("store"),
        "{health}"
    );

    let whole = aegis(&one, &["rm", "spam", "--all"]).await;
    assert!(
        !whole.status.success(),
        "nothing can be changed without a store"
    );
    answers(&one, 2).await;
}
