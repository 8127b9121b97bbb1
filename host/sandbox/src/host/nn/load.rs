//! `load`: a network from a guest's own bytes. Refused with `security` unless the operator
//! allows it; then bounded in bytes, number and time, and parsed behind [`GraphLoader`].
//!
//! [`GraphLoader`]: crate::GraphLoader

use std::sync::Arc;

use aegis_inference::Target;
use wasmtime::component::Resource;

use super::{
    Errable,
    graph::{GuestGraph, HeldGraph},
};
use crate::{
    bindings::wasi::nn::{
        errors::ErrorCode,
        graph::{ExecutionTarget, GraphEncoding},
    },
    graph_loader::{GraphBytes, GraphContent, GraphLoadFailure},
    instance::GuestState,
    refusals::Limit,
};

impl GuestState {
    pub(super) async fn load_bytes(
        &mut self,
        builder: Vec<Vec<u8>>,
        encoding: GraphEncoding,
        target: ExecutionTarget,
    ) -> Errable<Resource<GuestGraph>> {
        let Some(loader) = self.handler.graph_loader.clone() else {
            return self.nn_error(
                ErrorCode::Security,
                "loading a network from a handler's own bytes is not allowed here; put the \
                 network into the model package and open it with load-by-name",
            );
        };
        let bytes = builder.iter().map(Vec::len).sum();
        let asked = self
            .admit(bytes)
            .and_then(|()| Ok((content_of(builder, encoding)?, device(target)?)))
            .and_then(|asked| {
                self.charge_bytes("a network", bytes)?;
                Ok(asked)
            });
        let (content, target) = match asked {
            Ok(asked) => asked,
            Err((code, reason)) => return self.nn_error(code, reason),
        };
        self.nn.graphs += 1;
        let held = Arc::new(bytes);
        let loaded = loader
            .load(GraphBytes {
                content,
                target,
                deadline: self.deadline,
            })
            .await;
        match loaded {
            Ok(graph) => {
                let graph = GuestGraph(HeldGraph {
                    graph,
                    own_bytes: Some(held),
                });
                Ok(Ok(self.table.push(graph)?))
            }
            Err(failure) => {
                self.discharge_bytes(bytes);
                self.nn.graphs = self.nn.graphs.saturating_sub(1);
                let code = match &failure {
                    GraphLoadFailure::Refused(_) => ErrorCode::RuntimeError,
                    GraphLoadFailure::Timeout => {
                        self.refusals.add(Limit::Timeout, 1);
                        ErrorCode::Timeout
                    }
                    GraphLoadFailure::Broken(_) => ErrorCode::Unknown,
                };
                self.nn_error(code, failure.to_string())
            }
        }
    }

    /// Whether one more network of `bytes` is within the limits.
    fn admit(&mut self, bytes: usize) -> Result<(), (ErrorCode, String)> {
        let limits = &self.handler.limits;
        let (limit, reason) = if bytes > limits.graph_bytes {
            let most = limits.graph_bytes;
            let reason = format!("a network of {bytes} bytes is over {most} (limits.graph_mib)");
            (Limit::GraphBytes, reason)
        } else if self.nn.graphs >= limits.graphs {
            let most = limits.graphs;
            let reason = format!(
                "this model's instances hold at most {most} networks of their own at a time \
                 (limits.graphs)"
            );
            (Limit::Graphs, reason)
        } else {
            return Ok(());
        };
        self.refusals.add(limit, 1);
        Err((ErrorCode::TooLarge, reason))
    }
}

fn device(target: ExecutionTarget) -> Result<Target, (ErrorCode, String)> {
    match target {
        ExecutionTarget::Cpu => Ok(Target::Cpu),
        ExecutionTarget::Gpu => Ok(Target::Gpu),
        ExecutionTarget::Tpu => Err((
            ErrorCode::UnsupportedOperation,
            "no backend here runs on a tpu; cpu and gpu are known".to_owned(),
        )),
    }
}

/// The files of a network as the guest gave them.
fn content_of(
    builder: Vec<Vec<u8>>,
    encoding: GraphEncoding,
) -> Result<GraphContent, (ErrorCode, String)> {
    let invalid = |code, message: String| Err((code, message));
    let parts = builder.len();
    let encoding = match encoding {
        GraphEncoding::Autodetect => match builder.first().map(|first| detect(first)) {
            Some(Some(found)) => found,
            _ => {
                return invalid(
                    ErrorCode::InvalidEncoding,
                    "the bytes begin neither as ONNX nor as OpenVINO's IR".to_owned(),
                );
            }
        },
        known => known,
    };
    let mut buffers = builder.into_iter();
    match (encoding, buffers.next(), buffers.next(), buffers.next()) {
        (GraphEncoding::Onnx, Some(onnx), None, None) => Ok(GraphContent::Onnx(onnx)),
        (GraphEncoding::Openvino, Some(xml), Some(bin), None) => {
            Ok(GraphContent::OpenVinoIr { xml, bin })
        }
        (GraphEncoding::Onnx, ..) => invalid(
            ErrorCode::InvalidArgument,
            format!("an ONNX network is one buffer, weights included; {parts} were given"),
        ),
        (GraphEncoding::Openvino, ..) => invalid(
            ErrorCode::InvalidArgument,
            format!(
                "a network of OpenVINO's IR is two buffers, the XML and its weights; {parts} \
                 were given"
            ),
        ),
        (other, ..) => invalid(
            ErrorCode::InvalidEncoding,
            format!("networks are taken as onnx or openvino, not as {other:?}"),
        ),
    }
}

/// What a network's first buffer begins as: XML, or the key of a field that ONNX's
/// `ModelProto` has (`onnx.proto`, fields 1 to 8 and 14).
fn detect(first: &[u8]) -> Option<GraphEncoding> {
    const KEYS: [u8; 9] = [0x08, 0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42, 0x72];
    let xml = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first);
    if xml.trim_ascii_start().first() == Some(&b'<') {
        return Some(GraphEncoding::Openvino);
    }
    KEYS.contains(first.first()?).then_some(GraphEncoding::Onnx)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(builder: &[&[u8]], encoding: GraphEncoding) -> Result<GraphContent, ErrorCode> {
        let builder = builder.iter().map(|part| part.to_vec()).collect();
        content_of(builder, encoding).map_err(|(code, _)| code)
    }

    #[test]
    fn a_network_has_as_many_buffers_as_its_encoding_says() {
        let onnx = GraphContent::Onnx(vec![8, 9]);
        assert_eq!(code(&[&[8, 9]], GraphEncoding::Onnx), Ok(onnx));
        let ir = GraphContent::OpenVinoIr {
            xml: b"<net/>".to_vec(),
            bin: vec![1],
        };
        assert_eq!(code(&[b"<net/>", &[1]], GraphEncoding::Openvino), Ok(ir));
        for (builder, encoding) in [
            (&[][..], GraphEncoding::Onnx),
            (&[&[8][..], &[9]], GraphEncoding::Onnx),
            (&[b"<net/>"], GraphEncoding::Openvino),
            (&[b"<net/>", b"", b""], GraphEncoding::Openvino),
            (&[b"<net/>"], GraphEncoding::Autodetect),
        ] {
            assert_eq!(code(builder, encoding), Err(ErrorCode::InvalidArgument));
        }
    }

    #[test]
    fn autodetection_looks_at_the_bytes_and_other_encodings_are_refused() {
        let auto = |builder: &[&[u8]]| code(builder, GraphEncoding::Autodetect);
        assert!(matches!(auto(&[&[8, 9]]), Ok(GraphContent::Onnx(_))));
        assert!(matches!(
            auto(&[b"\xef\xbb\xbf <net/>", b""]),
            Ok(GraphContent::OpenVinoIr { .. })
        ));
        assert_eq!(auto(&[]), Err(ErrorCode::InvalidEncoding));
        assert_eq!(auto(&[b""]), Err(ErrorCode::InvalidEncoding));
        assert_eq!(auto(&[b"PK"]), Err(ErrorCode::InvalidEncoding));
        for encoding in [
            GraphEncoding::Tensorflow,
            GraphEncoding::Pytorch,
            GraphEncoding::Tensorflowlite,
            GraphEncoding::Ggml,
        ] {
            assert_eq!(code(&[&[8]], encoding), Err(ErrorCode::InvalidEncoding));
        }
        assert!(device(ExecutionTarget::Tpu).is_err());
    }
}
