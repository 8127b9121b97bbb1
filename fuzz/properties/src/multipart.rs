//! An upload's body through the upload route's own reading and staging: whatever its form and
//! however it is cut into pieces, it is refused by the caller's fault or is a whole package; and
//! nothing is left of it, anywhere.
//!
//! The input: one byte that says how the body arrives, the Content-Type up to the end of the line,
//! the body.

use std::{fs, sync::LazyLock};

use aegis_registry::{Digest, Manifest, ModelName, Package};
use aegis_server::ServerConfig;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Request, header};

use crate::server::{Server, to_the_end};

/// Small enough for the fuzzer to get over it.
const MAX_UPLOAD: u64 = 2 << 10;

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    Server::start(ServerConfig {
        max_upload_bytes: MAX_UPLOAD,
        ..ServerConfig::default()
    })
});

/// Any bytes as an upload to the model `m`.
pub fn multipart(input: &[u8]) {
    let Some((request, name)) = request(input) else {
        return;
    };
    let server = &*SERVER;
    to_the_end(async {
        match server.inside.receive(name.clone(), request).await {
            Ok(package) => is_whole(&package, &name),
            Err(refused) => {
                assert!((400..500).contains(&refused.status), "{refused:?}");
                assert!(!refused.message.is_empty(), "{refused:?}");
                assert!(refused.message.len() < 16 << 10, "{refused:?}");
            }
        }
    });
    server.is_as_it_began();
}

fn request(input: &[u8]) -> Option<(Request<Body>, ModelName)> {
    let (how, rest) = input.split_first()?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (content_type, body) = (rest.get(..end)?, rest.get(end + 1..)?);
    let request = Request::post("/v1/models/m/versions")
        .header(
            header::CONTENT_TYPE,
            HeaderValue::from_bytes(content_type).ok()?,
        )
        .body(arriving(*how, body))
        .ok()?;
    Some((request, "m".parse().ok()?))
}

/// A body in pieces of as many bytes as the low bits of `how` say, or whole; cut off at its end if
/// the highest bit is set.
fn arriving(how: u8, body: &[u8]) -> Body {
    let size = match how & 0x7f {
        0 => body.len().max(1),
        size => size.into(),
    };
    let mut pieces: Vec<Result<Bytes, &str>> = body
        .chunks(size)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    if how & 0x80 != 0 {
        pieces.push(Err("the connection was lost"));
    }
    Body::from_stream(futures_util::stream::iter(pieces))
}

fn is_whole(package: &Package, name: &ModelName) {
    let dir = package.dir();
    assert_eq!(package.manifest().name, *name);
    let bytes: u64 = dir.files().iter().map(|file| file.size).sum();
    assert!(bytes <= MAX_UPLOAD, "{bytes} bytes were taken");
    for file in dir.files() {
        let path = dir.file(&file.path);
        assert!(path.starts_with(dir.path()), "{path:?}");
        let content = fs::read(&path).expect("a file of the package");
        assert_eq!(content.len() as u64, file.size, "{path:?}");
        assert_eq!(Digest::of(&content), file.digest, "{path:?}");
    }
    let mut named: Vec<_> = package.manifest().files();
    let manifest = Manifest::FILE_NAME.parse().expect("a path");
    named.push(&manifest);
    named.sort();
    let there: Vec<_> = dir.files().iter().map(|file| &file.path).collect();
    assert_eq!(there, named);
    let text = fs::read_to_string(dir.path().join(Manifest::FILE_NAME)).expect("the manifest");
    assert_eq!(Manifest::parse(&text).as_ref(), Ok(package.manifest()));
}
