//! Keeps of a session what it is told to. The query says what to `do`, and the `key`; the body
//! is what to keep. What the host refuses is answered in its words, but for what comes of a
//! conflict, which goes to the caller as the SDK has it.

use std::time::Duration;

use aegis_guest::{Context, Failure, SessionError, Text};

fn predict(ctx: &Context, body: &[u8]) -> Result<Text<String>, Failure> {
    match act(ctx, body) {
        Ok(said) => Ok(Text(said)),
        Err(Act::Refused(error @ SessionError::Conflict { .. })) => Err(error.into()),
        Err(Act::Refused(error)) => Ok(Text(format!("refused: {error}"))),
        Err(Act::Failed(failure)) => Err(failure),
    }
}

enum Act {
    Refused(SessionError),
    Failed(Failure),
}

impl From<SessionError> for Act {
    fn from(error: SessionError) -> Self {
        Self::Refused(error)
    }
}

fn act(ctx: &Context, body: &[u8]) -> Result<String, Act> {
    let mut session = ctx.session(ctx.query("key").unwrap_or_default())?;
    let before = session.state().map_or_else(
        || "nothing".to_owned(),
        |state| String::from_utf8_lossy(state).into_owned(),
    );
    let number = |key| {
        ctx.query(key)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    };
    match ctx.query("do") {
        Some("get") => {}
        Some("keep") => {
            // Long enough for another request to come between.
            std::thread::sleep(Duration::from_millis(number("ms")));
            session.keep(body)?;
        }
        Some("fill") => session.keep(&vec![b'x'; number("bytes") as usize])?,
        Some("forget") => session.forget()?,
        other => {
            let message = format!("do what? `{other:?}`");
            return Err(Act::Failed(Failure::invalid_input(message)));
        }
    }
    Ok(before)
}

aegis_guest::handler!(predict);
