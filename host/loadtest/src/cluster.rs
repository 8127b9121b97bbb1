//! Replicas of a Deployment, read from a cluster by a kubeconfig.

use std::path::Path;

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::Deserialize;

use crate::replicas::{PATIENCE, Reading, ReplicaError, ReplicaSource};

/// A Deployment in a cluster.
pub struct Deployment {
    client: Client,
    server: String,
    namespace: String,
    name: String,
}

/// The part of a Deployment that is read. `status.replicas` is left out by the API where it is 0.
#[derive(Deserialize)]
struct Seen {
    kind: String,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    replicas: u32,
}

impl Deployment {
    /// The Deployment `name` in `namespace` (none: the context's) of the cluster of a kubeconfig and
    /// its `context` (none: the current one). Nothing is asked of the cluster yet.
    ///
    /// # Errors
    /// A kubeconfig that cannot be read or leads nowhere; a name that is none.
    pub async fn new(
        kubeconfig: &Path,
        context: Option<&str>,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Self, ReplicaError> {
        let file = kubeconfig.display();
        let read = Kubeconfig::read_from(kubeconfig)
            .map_err(|error| ReplicaError(format!("the kubeconfig {file}: {}", chain(&error))))?;
        let options = KubeConfigOptions {
            context: context.map(str::to_owned),
            ..KubeConfigOptions::default()
        };
        let mut config = Config::from_custom_kubeconfig(read, &options)
            .await
            .map_err(|error| {
                let wish = context.map_or_else(
                    || "its current context".to_owned(),
                    |context| format!("its context {context}"),
                );
                ReplicaError(format!("the kubeconfig {file}, {wish}: {}", chain(&error)))
            })?;
        config.connect_timeout = Some(PATIENCE);
        config.read_timeout = Some(PATIENCE);
        // A reading that fails is missing; the next one is a second away.
        config.default_retry = false;
        let namespace = namespace.unwrap_or(&config.default_namespace).to_owned();
        let server = config.cluster_url.to_string();
        for (what, word) in [("namespace", namespace.as_str()), ("Deployment", name)] {
            if !is_name(word) {
                return Err(ReplicaError(format!(
                    "`{word}` is no name of a {what}; such names have small letters, digits, `-` and `.`"
                )));
            }
        }
        let client = Client::try_from(config)
            .map_err(|error| ReplicaError(format!("the kubeconfig {file}: {}", chain(&error))))?;
        Ok(Self {
            client,
            server,
            namespace,
            name: name.to_owned(),
        })
    }

    async fn read(&self) -> Result<u32, ReplicaError> {
        let Self {
            server,
            namespace,
            name,
            ..
        } = self;
        let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}");
        let request = http::Request::get(path)
            .body(Vec::new())
            .map_err(|error| ReplicaError(error.to_string()))?;
        let text = self
            .client
            .request_text(request)
            .await
            .map_err(|error| self.refusal(&error))?;
        let not_one = || {
            ReplicaError(format!(
                "{server} did not answer with a Deployment when asked for {name} in namespace \
                 {namespace}; is it a Kubernetes API server?"
            ))
        };
        let seen: Seen = serde_json::from_str(&text).map_err(|_| not_one())?;
        if seen.kind != "Deployment" {
            return Err(not_one());
        }
        Ok(seen.status.replicas)
    }

    fn refusal(&self, error: &kube::Error) -> ReplicaError {
        let Self {
            server,
            namespace,
            name,
            ..
        } = self;
        let status = match error {
            kube::Error::Api(status) => status.code,
            _ => 0,
        };
        ReplicaError(match status {
            401 => format!(
                "the cluster at {server} does not know the kubeconfig's credentials (401); \
                 are they expired?"
            ),
            403 => format!(
                "the kubeconfig may not `get` `deployments` (API group apps) in namespace \
                 {namespace}, which reading the replicas of {name} takes; grant it: \
                 kubectl create role replica-reader --verb=get --resource=deployments.apps \
                 --resource-name={name} -n {namespace}, and a rolebinding to it"
            ),
            404 => format!(
                "there is no Deployment {name} in namespace {namespace} of the cluster at {server}; \
                 `kubectl get deployments -A` lists what there is"
            ),
            0 => format!(
                "the cluster at {server} did not tell the replicas of {name}: {}",
                chain(error)
            ),
            _ => format!(
                "the cluster at {server} answered {status} when asked for Deployment {name} in \
                 namespace {namespace}"
            ),
        })
    }
}

impl ReplicaSource for Deployment {
    fn replicas(&self) -> Reading<'_> {
        Box::pin(self.read())
    }
}

/// Of a DNS subdomain, which is what a name of Kubernetes is: nothing that would change a path.
fn is_name(word: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let part = |part: &str| !part.is_empty() && part.bytes().all(allowed);
    word.len() <= 253 && word.split('.').all(part)
}

/// An error with its causes, each once: some repeat their cause in their own words.
fn chain(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !told.contains(&words) {
            told.push_str(": ");
            told.push_str(&words);
        }
        source = cause.source();
    }
    told
}
