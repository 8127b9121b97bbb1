//! A log line with the trace of the request that it belongs to. The ids are where collectors look
//! for them: beside the event's own fields.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::trace::current;

/// How a line is written.
pub(crate) enum Line {
    /// For people.
    Text(Format<Full>),
    /// A JSON object.
    Json(Format<Json>),
}

impl Line {
    pub(crate) fn text() -> Self {
        Self::Text(Format::default())
    }

    pub(crate) fn json() -> Self {
        let format = tracing_subscriber::fmt::format().json();
        Self::Json(format.flatten_event(true).with_span_list(false))
    }
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(ids) = current() else {
            return match self {
                Self::Text(format) => format.format_event(context, writer, event),
                Self::Json(format) => format.format_event(context, writer, event),
            };
        };
        let (trace_id, span_id) = (ids.trace_id, ids.span_id);
        let mut line = String::new();
        let plain = Writer::new(&mut line);
        match self {
            Self::Text(format) => {
                // Made here, a writer knows nothing of colours.
                let format = format.clone().with_ansi(writer.has_ansi_escapes());
                format.format_event(context, plain, event)?;
                let line = line.trim_end_matches('\n');
                writeln!(writer, "{line} trace_id={trace_id} span_id={span_id}")
            }
            Self::Json(format) => {
                format.format_event(context, plain, event)?;
                // An event has a timestamp at least, so the ids are never the only members.
                let members = line.strip_prefix('{').unwrap_or(&line);
                write!(
                    writer,
                    "{{\"trace_id\":\"{trace_id}\",\"span_id\":\"{span_id}\",{members}"
                )
            }
        }
    }
}
