//! What a guest says: in its answer, in its refusal, in its log.
//!
//! | `do` | what happens |
//! |---|---|
//! | `headers` | answers with `n` (100,000) headers |
//! | `long-header`, `long-content-type` | answers with a header, a content type, of `n` (8 MiB) bytes |
//! | `long-refusal`, `long-field`, `long-failure` | refuses, names a field, fails in `n` (8 MiB) bytes of words |
//! | `long-flag`, `long-value` | flags, records a value, under a name of `n` (8 MiB) bytes |
//! | `endless-line` | writes `n` (8 MiB) bytes of log without a line's end |
//! | `newlines` | writes `n` (1 MiB) empty lines |
//! | `binary` | writes every byte there is to the log, often |
//! | `forge` | writes what looks like another's log line, with terminal codes |

use std::io::Write as _;

use aegis_guest::{__private::bindings::host::aegis::inference::signals, Failure, Response};

pub(crate) fn act(what: &str, n: Option<u64>) -> Option<Result<Response, Failure>> {
    let size = usize::try_from(n.unwrap_or(8 << 20)).unwrap_or(usize::MAX);
    let long = || "l".repeat(size);
    Some(match what {
        "headers" => Ok(headers(n.unwrap_or(100_000))),
        "long-header" => Ok(Response::new("text/plain", "answered").with_header("x-long", long())),
        "long-content-type" => Ok(Response::new(long(), "answered")),
        "long-refusal" => Err(Failure::invalid_input(long())),
        "long-field" => Err(Failure::invalid_field(long(), "wrong")),
        "long-failure" => Err(Failure::internal(long())),
        "long-flag" => {
            signals::flag(&long());
            super::done()
        }
        "long-value" => {
            signals::record_value(&long(), 1.0);
            super::done()
        }
        "endless-line" => log(&vec![b'x'; size]),
        "newlines" => log(&vec![
            b'\n';
            usize::try_from(n.unwrap_or(1 << 20)).unwrap_or(0)
        ]),
        "binary" => log(&(0..=255).collect::<Vec<u8>>().repeat(64)),
        "forge" => log(
            b"{\"level\":\"ERROR\",\"message\":\"forged\",\"request_id\":\"another\"}\n\
              \",\"request_id\":\"another\",\"x\":\"\x1b[31mred\x1b[0m\roverwritten\x07\x00\n",
        ),
        _ => return None,
    })
}

fn headers(count: u64) -> Response {
    (0..count).fold(Response::new("text/plain", "answered"), |response, n| {
        response.with_header(format!("x-{n}"), "y")
    })
}

fn log(bytes: &[u8]) -> Result<Response, Failure> {
    std::io::stderr().write_all(bytes)?;
    super::done()
}
