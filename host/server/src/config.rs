//! What the server is told, checked: one plain struct that the command line fills.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use aegis_registry::manifest::Limits;

/// How a server behaves. Sizes are bytes.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Whether the management routes (`/v1/…`) are there.
    pub management: bool,
    /// A listener of their own for the management routes; they are then nowhere else.
    pub admin_listen: Option<SocketAddr>,
    /// The file of tokens and their roles; without it nobody is asked for one.
    pub tokens: Option<PathBuf>,
    /// The operator's ceilings over what manifests ask for.
    pub ceilings: Limits,
    /// Whether a handler may load a network from its own bytes through `wasi:nn`.
    pub allow_graph_bytes: bool,
    /// What loaded versions may take together, estimated, in bytes: the least used are
    /// unloaded, and loaded again by the next request. `None`: no bound.
    pub memory_budget: Option<u64>,
    /// Load every model's stable version before the server is ready. Otherwise a model is
    /// loaded by its first request.
    pub prewarm_model: bool,
    /// How often the store is asked what others changed.
    pub store_poll: Duration,
    /// Ready only when every model's stable version is loaded.
    pub readiness_check_model: bool,
    /// The largest body of a prediction.
    pub max_body_bytes: usize,
    /// What the bodies of all requests and answers in memory may take together.
    pub max_bodies_bytes: usize,
    /// The largest package.
    pub max_upload_bytes: u64,
    /// Uploads taken at once; more are told to come back.
    pub max_concurrent_uploads: usize,
    /// The longest a request may take, whatever its manifest says, its body's arrival
    /// included.
    pub request_timeout: Duration,
    /// The longest an upload may pause.
    pub upload_idle_timeout: Duration,
    /// The longest a connection may take to send a request's headers.
    pub header_read_timeout: Duration,
    /// The most bytes of one request's headers.
    pub max_header_bytes: usize,
    /// Connections at once; more wait to be accepted.
    pub max_connections: usize,
    /// How long after SIGTERM requests in flight may take.
    pub grace_period: Duration,
    /// How long after SIGTERM the server goes on accepting, not ready, so that load
    /// balancers notice.
    pub drain_delay: Duration,
    /// Request headers that handlers get to see, lower case.
    pub forward_headers: Vec<String>,
    /// Request headers, in lower case, by which a caller is known to traffic rules: the first that a request has. A
    /// caller then stays with its version.
    pub sticky_headers: Vec<String>,
    /// Called once a version's memory is free, on a thread where it may take its time: gives it back to the system,
    /// where the allocator does not of itself.
    pub give_back: Option<fn()>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            management: true,
            admin_listen: None,
            tokens: None,
            ceilings: Limits::default(),
            allow_graph_bytes: false,
            memory_budget: None,
            prewarm_model: true,
            store_poll: Duration::from_secs(5),
            readiness_check_model: true,
            max_body_bytes: 16 << 20,
            max_bodies_bytes: 1 << 30,
            max_upload_bytes: 1 << 30,
            max_concurrent_uploads: 2,
            request_timeout: Duration::from_secs(30),
            upload_idle_timeout: Duration::from_secs(30),
            header_read_timeout: Duration::from_secs(10),
            max_header_bytes: 32 << 10,
            max_connections: 4096,
            grace_period: Duration::from_secs(25),
            drain_delay: Duration::ZERO,
            forward_headers: default_forward_headers(),
            sticky_headers: vec!["aegis-sticky".to_owned()],
            give_back: None,
        }
    }
}

/// What a handler may know of a request's headers when the operator says nothing: what
/// shapes an answer or ties traces together, and never credentials.
pub(crate) fn default_forward_headers() -> Vec<String> {
    [
        "accept",
        "accept-language",
        "traceparent",
        "tracestate",
        "user-agent",
    ]
    .map(str::to_owned)
    .to_vec()
}
