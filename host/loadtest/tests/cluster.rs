//! Reading a Deployment's replicas, against a stand-in for the Kubernetes API server.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod stand_in;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use aegis_loadtest::{cluster::Deployment, replicas::ReplicaSource as _};
use stand_in::{Does, StandIn};
use tempfile::TempDir;

fn kubeconfig(server: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
         clusters: [{{name: c, cluster: {{server: '{server}'}}}}]\n\
         users: [{{name: u, user: {{token: sesame}}}}]\n\
         contexts: [{{name: here, context: {{cluster: c, user: u, namespace: models}}}}]\n"
    );
    std::fs::write(&file, text).unwrap();
    (folder, file)
}

fn answers(status: u16, body: &str) -> StandIn {
    let body = body.as_bytes().to_vec();
    StandIn::start(move |_| Does::Answers(Duration::ZERO, status, body.clone()))
}

async fn read(server: &StandIn, namespace: Option<&str>) -> Result<u32, String> {
    let (_folder, file) = kubeconfig(&server.url());
    let deployment = Deployment::new(&file, None, namespace, "inference")
        .await
        .unwrap();
    let read = deployment.replicas().await;
    read.map_err(|error| error.to_string())
}

fn status(code: u16, reason: &str) -> String {
    format!(
        "{{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{{}},\"status\":\"Failure\",\
         \"message\":\"no\",\"reason\":\"{reason}\",\"code\":{code}}}"
    )
}

#[tokio::test]
async fn replicas_are_those_of_the_status_asked_for_with_the_kubeconfigs_token() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let server = StandIn::start({
        let heads = Arc::clone(&heads);
        move |asked| {
            heads.lock().unwrap().push(asked.head.clone());
            let body = r#"{"kind":"Deployment","apiVersion":"apps/v1","spec":{"replicas":9},"status":{"replicas":4}}"#;
            Does::Answers(Duration::ZERO, 200, body.into())
        }
    });
    assert_eq!(read(&server, None).await, Ok(4));
    assert_eq!(read(&server, Some("other")).await, Ok(4));
    let heads = heads.lock().unwrap();
    for (head, namespace) in heads.iter().zip(["models", "other"]) {
        let path = format!("GET /apis/apps/v1/namespaces/{namespace}/deployments/inference HTTP");
        assert!(head.starts_with(&path), "{head}");
        assert!(
            head.to_lowercase().contains("authorization: bearer sesame"),
            "{head}"
        );
    }
}

#[tokio::test]
async fn a_deployment_scaled_to_nothing_has_none() {
    let server = answers(200, r#"{"kind":"Deployment","status":{}}"#);
    assert_eq!(read(&server, None).await, Ok(0));
}

#[tokio::test]
async fn a_kubeconfig_without_rights_is_told_verb_resource_and_namespace() {
    let told = read(&answers(403, &status(403, "Forbidden")), None)
        .await
        .unwrap_err();
    for word in [
        "`get`",
        "`deployments`",
        "namespace models",
        "inference",
        "kubectl create role",
    ] {
        assert!(told.contains(word), "{word}: {told}");
    }
}

#[tokio::test]
async fn other_refusals_say_what_is_wrong() {
    let cases: [(u16, &str, &[&str]); 5] = [
        (401, "Unauthorized", &["401", "credentials"]),
        (
            404,
            "NotFound",
            &["no Deployment inference", "namespace models"],
        ),
        (500, "InternalError", &["500"]),
        (401, "", &["401", "credentials"]),
        (403, "", &["`get`"]),
    ];
    for (code, reason, words) in cases {
        // Without a reason: the plain text that a proxy before the API server answers with.
        let body = if reason.is_empty() {
            "no".to_owned()
        } else {
            status(code, reason)
        };
        let told = read(&answers(code, &body), None).await.unwrap_err();
        for word in words {
            assert!(told.contains(word), "{word}: {told}");
        }
    }
}

#[tokio::test]
async fn what_is_no_deployment_is_not_taken_for_one() {
    for garbage in [
        "<html>hello</html>",
        "{}",
        r#"{"kind":"Pod","status":{"replicas":3}}"#,
        "",
        r#"{"kind":"Deployment","status":{"replicas":-1}}"#,
    ] {
        let told = read(&answers(200, garbage), None).await.unwrap_err();
        assert!(
            told.contains("is it a Kubernetes API server?"),
            "{garbage}: {told}"
        );
    }
}

#[tokio::test]
async fn an_api_server_that_is_not_there_is_named() {
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (_folder, file) = kubeconfig(&format!("http://{address}"));
    let deployment = Deployment::new(&file, None, None, "inference")
        .await
        .unwrap();
    let told = deployment.replicas().await.unwrap_err().to_string();
    assert!(told.contains(&address.to_string()), "{told}");
}

#[tokio::test]
async fn a_kubeconfig_that_leads_nowhere_is_told_with_its_file() {
    let (folder, file) = kubeconfig("http://127.0.0.1:1");
    let new = async |file: &std::path::Path, context: Option<&str>, name: &str| {
        let made = Deployment::new(file, context, None, name).await;
        made.map(|_| ()).unwrap_err().to_string()
    };
    let missing = new(&folder.path().join("none"), None, "inference").await;
    assert!(missing.contains("none"), "{missing}");
    let context = new(&file, Some("prod"), "inference").await;
    assert!(context.contains("context prod"), "{context}");
    let name = new(&file, None, "../secrets/x").await;
    assert!(name.contains("`../secrets/x` is no name"), "{name}");
    std::fs::write(&file, "{not yaml").unwrap();
    let garbled = new(&file, None, "inference").await;
    assert!(garbled.contains("config"), "{garbled}");
}
