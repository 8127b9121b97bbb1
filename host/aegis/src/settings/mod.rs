//! What can be set about a server, in one table: flags, environment variables, the configuration
//! file, `--print-config` and `docs/configuration.md` are all made from the rows below.
//!
//! A setting's value comes from the first of flag, environment (`AEGIS_` and the key in capitals),
//! file (`--config` or `AEGIS_CONFIG`), OpenTelemetry's own variable for it, and default that has it
//! ([`layers`]). [`ServeArgs::resolve`]
//! reads and checks them all in one step; past it, a [`ServeSettings`] is right. What is then done
//! with the values is left to the commands.

mod access;
mod args;
mod error;
mod form;
mod form_telemetry;
mod layers;
mod print;
mod resolve;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use aegis_registry::{StoreUrl, manifest::Limits};
use aegis_telemetry::{LogFormat, OtlpEndpoint, OtlpProtocol, SamplerKind};

pub(crate) use args::ServeArgs;
pub(crate) use form::{ByteSize, Management};
pub(crate) use resolve::Resolved;

use form::{
    Address, Ceilings, Choice, Files, Filter, Folder, Folders, Form, HeaderNames, Kib, Kind, Mib,
    Millis, Number, OptionalAddress, OptionalPath, OptionalStore, Seconds, Switch,
};
use form_telemetry::{Fraction, Headers, OptionalEndpoint, OptionalName};
use resolve::Chooser;

/// What one setting is: a row of the table, for all who read it.
#[derive(Clone, Copy)]
pub(crate) struct SettingInfo {
    /// The key in the file. Flag and variable are this key in their own spelling.
    pub(crate) key: &'static str,
    /// The heading it stands under.
    pub(crate) group: &'static str,
    /// What it does.
    doc: &'static str,
    /// The default as one would write it; for a list or an optional value, none.
    pub(crate) default: &'static [&'static str],
    /// What its value is in TOML.
    pub(crate) kind: Kind,
    /// What stands for the value in help: `ADDRESS`.
    pub(crate) placeholder: &'static str,
    /// What a right value is, in words.
    pub(crate) expects: fn() -> String,
    /// The variable that OpenTelemetry has for it, which holds where nothing of ours does.
    pub(crate) standard: Option<&'static str>,
}

impl SettingInfo {
    /// What it does, in a line.
    pub(crate) fn help(&self) -> &'static str {
        self.doc.trim()
    }

    /// The long flag, without its dashes.
    pub(crate) fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The environment variable.
    pub(crate) fn variable(&self) -> String {
        format!("AEGIS_{}", self.key.to_uppercase())
    }
}

/// A row's standard variable, if it names one.
macro_rules! standard {
    () => {
        None
    };
    ($name:literal) => {
        Some($name)
    };
}

/// Makes the checked struct, the table of rows and the step from one to the other. A row is
/// `field: Form["key"] = [default words];` under its documentation, with a standard variable's name
/// after the key if there is one.
macro_rules! settings {
    ($($group:literal { $($(#[doc = $doc:literal])+ $field:ident: $type:ty = $form:ty[$key:literal $(, $standard:literal)?] = [$($default:literal),*];)+ })+) => {
        /// The settings of `aegis serve`, checked. Paths are as they were given: relative ones
        /// start from the folder the server was started in.
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct ServeSettings {
            $($($(#[doc = $doc])+ pub(crate) $field: $type,)+)+
        }

        /// Every setting, in the order of help and documentation.
        pub(crate) const TABLE: &[SettingInfo] = &[
            $($(SettingInfo {
                key: $key,
                group: $group,
                doc: concat!($($doc),+),
                default: &[$($default),*],
                kind: <$form>::KIND,
                placeholder: <$form>::PLACEHOLDER,
                expects: <$form>::expects,
                standard: standard!($($standard)?),
            },)+)+
        ];

        impl ServeSettings {
            /// Reads every row; `None` if any of them had a problem, which `chooser` then holds.
            fn choose(chooser: &mut Chooser) -> Option<Self> {
                let mut rows = TABLE.iter();
                // All are read before any is missed, so that one run tells every mistake.
                $($(let $field = rows.next().and_then(|row| chooser.read::<$form>(row));)+)+
                Some(Self { $($($field: $field?,)+)+ })
            }
        }
    };
}

settings! {
    "Network" {
        /// Address and port to listen on.
        listen: SocketAddr = Address["listen"] = ["127.0.0.1:8000"];
        /// Whether the routes that manage models (/v1/models) are served. Without `tokens` they are
        /// open to whoever reaches them, and so for this machine only.
        management: Management = Choice<Management>["management"] = ["on"];
        /// Address and port of a listener for the management routes alone; they are then not served on the other.
        admin_listen: Option<SocketAddr> = OptionalAddress["admin_listen"] = [];
        /// File of tokens, and of who may do what with them (`aegis token` makes its lines). Read again when it changes.
        tokens: Option<PathBuf> = OptionalPath["tokens"] = [];
        /// Connections open at once, on each listener; further ones wait to be accepted.
        max_connections: usize = Number<1, 1_000_000>["max_connections"] = ["4096"];
        /// Time a client has to send a request's head.
        header_read_timeout: Duration = Millis<1, 600_000>["header_read_timeout_ms"] = ["10000"];
        /// Size of a request's head, in KiB; larger ones are refused (431).
        max_header: ByteSize = Kib<8, 1024>["max_header_kib"] = ["32"];
        /// Size of a prediction's body, in MiB; larger ones are refused (413).
        max_body: ByteSize = Mib<1, 4096>["max_body_mib"] = ["16"];
        /// Size of the bodies of all requests and answers in memory together, in MiB; what finds no room is told to come back (503).
        max_bodies: ByteSize = Mib<1, 1_048_576>["max_bodies_mib"] = ["1024"];
        /// Size of one uploaded version, all files together, in MiB.
        max_upload: ByteSize = Mib<1, 1_048_576>["max_upload_mib"] = ["1024"];
        /// Time an upload may go without a byte arriving.
        upload_idle_timeout: Duration = Millis<1, 600_000>["upload_idle_timeout_ms"] = ["30000"];
        /// Uploads received at once; further ones are told to come back (429).
        max_concurrent_uploads: usize = Number<1, 64>["max_concurrent_uploads"] = ["2"];
        /// Request headers that handlers get to see. Credentials do not belong here.
        forward_headers: Vec<String> = HeaderNames["forward_headers"] = ["accept", "accept-language", "traceparent", "tracestate", "user-agent"];
    }
    "Models" {
        /// Folder of everything the server keeps: uploaded models and compiled code.
        data: PathBuf = Folder["data"] = ["data"];
        /// Where uploaded models are kept, if not in the data folder: another folder, or a bucket that a
        /// fleet shares (docs/registry.md).
        store: Option<StoreUrl> = OptionalStore["store"] = [];
        /// Time from one look to the next at what others changed in the store, give or take a fifth.
        store_poll: Duration = Millis<100, 3_600_000>["store_poll_ms"] = ["5000"];
        /// Time that one call to a bucket may take, and one piece of its answer. Half of it is for one request: what is
        /// not answered by then is asked again.
        store_timeout: Duration = Millis<1000, 600_000>["store_timeout_ms"] = ["60000"];
        /// Size of the local copies of versions that come from a bucket, in MiB: beyond it the least
        /// recently used that nobody uses go.
        local_models: ByteSize = Mib<1, 16_777_216>["local_models_mib"] = ["16384"];
        /// Public keys, in PEM files. With any set, only packages that one of them signed are taken and
        /// served (docs/registry.md). May be given more than once.
        trusted_keys: Vec<PathBuf> = Files["trusted_keys"] = [];
        /// Packages, or folders of packages, to serve from the start. May be given more than once.
        models: Vec<PathBuf> = Folders["models"] = [];
        /// Whether models are loaded at start, or at their first request.
        prewarm_model: bool = Switch["prewarm_model"] = ["true"];
        /// Whether the server is ready (/readyz) only when every model that should serve is loaded.
        readiness_check_model: bool = Switch["readiness_check_model"] = ["true"];
    }
    "Models in memory" {
        /// Memory of loaded versions together, estimated, in MiB: beyond it the least used are
        /// unloaded, and loaded again by their next request. 0: no bound.
        memory_budget: ByteSize = Mib<0, 16_777_216>["memory_budget_mib"] = ["0"];
        /// Compiled code kept on disk, in MiB: beyond it the least recently used goes.
        code_cache: ByteSize = Mib<1, 16_777_216>["code_cache_mib"] = ["4096"];
    }
    "Predictions" {
        /// Request headers by which a caller stays with its version while a canary is on trial: the first that a request
        /// has. Without one, each request is on its own.
        sticky_headers: Vec<String> = HeaderNames["sticky_headers"] = ["aegis-sticky"];
        /// Predictions of one model that run at once, at most; a manifest may ask for fewer.
        predict_max_concurrency: usize = Number<1, 10_000>["predict_max_concurrency"] = ["16"];
        /// Predictions of one model that wait, at most; more are refused at once (429). A manifest may ask for fewer.
        predict_max_queue: usize = Number<0, 100_000>["predict_max_queue"] = ["64"];
        /// Time one prediction may take, at most; a manifest may ask for less.
        request_timeout: Duration = Millis<1, 3_600_000>["request_timeout_ms"] = ["30000"];
    }
    "Sandbox" {
        /// Ceilings over the limits that manifests ask for, as KEY=VALUE: `memory_mib=512`. docs/limits.md lists the keys and the ceilings that hold unless set here.
        ceilings: Limits = Ceilings["ceilings"] = [];
        /// WebAssembly memory of one instance, in MiB, at most; a manifest may ask for less.
        max_memory: ByteSize = Mib<1, 4096>["max_memory_mib"] = ["1024"];
        /// Handler instances at once, of all models together, those kept ready included. Address
        /// space is set aside for each. A slot keeps up to 4 MiB of what ran in it: as many slots
        /// as were taken at once, and a quarter of all beside.
        max_instances: usize = Number<1, 100_000>["max_instances"] = ["256"];
        /// WebAssembly memory and tensors of all instances together, in MiB. 0: three quarters of the machine's memory, or of the container's.
        guest_memory: ByteSize = Mib<0, 16_777_216>["guest_memory_mib"] = ["0"];
        /// Instances kept ready for each model, so that a request finds one made.
        warm_instances: usize = Number<0, 10_000>["warm_instances"] = ["8"];
        /// Time a model that nobody asks keeps its ready instances.
        warm_idle: Duration = Seconds<1, 86_400>["warm_idle_s"] = ["30"];
        /// Stack of one instance's WebAssembly, in KiB.
        max_stack: ByteSize = Kib<64, 16_384>["max_stack_kib"] = ["512"];
        /// Whether what is uploaded is compiled and parsed in a short-lived process of its own, whose memory and time are bounded and whose crash refuses the upload and harms nothing.
        isolate_uploads: bool = Switch["isolate_uploads"] = ["true"];
        /// Whether a handler may load a network from its own bytes through wasi:nn.
        allow_graph_bytes: bool = Switch["allow_graph_bytes"] = ["false"];
    }
    "Inference runtimes" {
        /// ONNX Runtime's library, or its folder; the only place looked in. Else it is searched for.
        onnxruntime: Option<PathBuf> = OptionalPath["onnxruntime"] = [];
        /// OpenVINO's C library, or its folder; the only place looked in. Else it is searched for.
        openvino: Option<PathBuf> = OptionalPath["openvino"] = [];
        /// Threads that all networks together compute on; 0 is one for each core. Networks whose runs want more take turns.
        inference_threads: usize = Number<0, 1024>["inference_threads"] = ["0"];
        /// Folders to search for both before the usual places (beside the program, .runtimes, the system's). May be given more than once.
        runtimes: Vec<PathBuf> = Folders["runtimes"] = [];
    }
    "Telemetry" {
        /// Collector that metrics and traces are sent to, besides /metrics; without one they are not (docs/telemetry.md).
        otlp_endpoint: Option<OtlpEndpoint> = OptionalEndpoint["otlp_endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT"] = [];
        /// How the collector is spoken to: protobuf over HTTP, or gRPC.
        otlp_protocol: OtlpProtocol = Choice<OtlpProtocol>["otlp_protocol", "OTEL_EXPORTER_OTLP_PROTOCOL"] = ["http"];
        /// Headers of every request to the collector. Credentials are best given in OTEL_EXPORTER_OTLP_HEADERS, which is read as well and not printed.
        otlp_headers: Vec<(String, String)> = Headers["otlp_headers"] = [];
        /// Time one export may take, retries included.
        otlp_timeout: Duration = Millis<1, 600_000>["otlp_timeout_ms", "OTEL_EXPORTER_OTLP_TIMEOUT"] = ["10000"];
        /// Time from one export of metrics to the next. Spans are sent within a second.
        otlp_interval: Duration = Millis<100, 3_600_000>["otlp_interval_ms", "OTEL_METRIC_EXPORT_INTERVAL"] = ["60000"];
        /// Which requests are traced. Those that are called parentbased do as the caller's trace says, if it has one.
        trace_sampler: SamplerKind = Choice<SamplerKind>["trace_sampler", "OTEL_TRACES_SAMPLER"] = ["parentbased_traceidratio"];
        /// Share of the traces beginning here that are recorded, for the samplers with a ratio.
        trace_ratio: f64 = Fraction["trace_ratio", "OTEL_TRACES_SAMPLER_ARG"] = ["1.0"];
        /// What this service is called in telemetry: aegis, unless OTEL_RESOURCE_ATTRIBUTES says otherwise.
        otlp_service_name: Option<String> = OptionalName["otlp_service_name", "OTEL_SERVICE_NAME"] = [];
    }
    "Process" {
        /// Threads that serve requests; 0 is one for each core. Networks run on threads of their own.
        worker_threads: usize = Number<0, 1024>["worker_threads"] = ["0"];
        /// Time for requests in flight to finish after SIGTERM. Kubernetes' grace period must be longer.
        grace_period: Duration = Seconds<0, 3600>["grace_period_s"] = ["25"];
        /// Time between not being ready (/readyz) and refusing connections, for load balancers to notice; part of the grace period.
        drain_delay: Duration = Millis<0, 600_000>["drain_delay_ms"] = ["0"];
        /// How log lines look.
        log_format: LogFormat = Choice<LogFormat>["log_format"] = ["text"];
        /// What is logged.
        log_filter: String = Filter["log_filter"] = ["info"];
    }
}

#[cfg(test)]
mod tests;
