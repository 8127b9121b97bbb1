//! The CSV that a load test leaves, with the seeds' columns.

/// The header, exactly.
const HEADER: &str = "Timestamp,Users,Workers,Duration,InitialReplicas,PeakReplicas,FinalReplicas,\
                      ScaleUpEvents,ScaleDownEvents,Requests,RPS,P50,P95,P99,MaxLatency,FailureRate";

/// One run of a load test.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultRow {
    /// In the file, from 1.
    pub line: usize,
    /// Users at once; none where requests came at a rate of their own (an open loop).
    pub users: Option<f64>,
    /// Replicas at the beginning, at most and at the end; none where nobody could tell, or where they
    /// were simulated.
    pub replicas: Option<(u32, u32, u32)>,
    /// Requests a second.
    pub rps: f64,
    /// P50, P95 and P99 in milliseconds; none where nothing was answered.
    pub latency: Option<[f64; 3]>,
    /// In percent.
    pub failure_rate: f64,
}

/// Why a file is no result of a load test.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResultsError {
    /// The columns are others.
    #[error("line 1 is `{0}`, and must be `{HEADER}`")]
    Header(String),
    /// A line cannot be read.
    #[error("line {line}: {reason}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

/// What `aegis loadtest` writes below the header where replicas are of its simulator: they are no
/// measurement, and the rows count as having none.
pub const SIMULATED: &str = "# replicas are simulated, not read from a cluster";

/// Reads results.
///
/// # Errors
/// With the line and the column that is wrong.
pub fn read_results(text: &str) -> Result<Vec<ResultRow>, ResultsError> {
    let mut lines = text.lines().enumerate();
    // Spreadsheets begin a file with a byte order mark.
    let header = lines
        .next()
        .map_or("", |(_, line)| line)
        .trim_start_matches('\u{feff}');
    if header.trim() != HEADER {
        return Err(ResultsError::Header(header.trim().to_owned()));
    }
    let mut simulated = false;
    let mut rows = Vec::new();
    for (index, text) in lines {
        match text.trim() {
            "" => {}
            SIMULATED => simulated = true,
            text => {
                let line = index + 1;
                let read = row(line, text).map_err(|reason| ResultsError::Line { line, reason })?;
                rows.push(read);
            }
        }
    }
    if simulated {
        rows.iter_mut().for_each(|row| row.replicas = None);
    }
    Ok(rows)
}

fn row(line: usize, text: &str) -> Result<ResultRow, String> {
    let columns: Vec<&str> = HEADER.split(',').collect();
    let fields: Vec<&str> = text.split(',').map(str::trim).collect();
    if fields.len() != columns.len() {
        return Err(format!(
            "it has {} columns, not {}",
            fields.len(),
            columns.len()
        ));
    }
    let field = |name: &str| {
        let at = columns.iter().position(|column| *column == name);
        at.and_then(|at| fields.get(at))
            .copied()
            .unwrap_or_default()
    };
    let number = |name: &str, least: f64| {
        let text = field(name);
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() && value >= least => Ok(value),
            Ok(value) => Err(format!("{name} is {value}, and must be {least} at least")),
            Err(_) => Err(format!("{name} is `{text}`, and must be a number")),
        }
    };
    let replicas = |name: &str| match field(name) {
        "" => Ok(None),
        text => match text.parse::<u32>() {
            Ok(count) if count > 0 => Ok(Some(count)),
            _ => Err(format!("{name} is `{text}`, and must be a count, or empty")),
        },
    };
    let counts = (
        replicas("InitialReplicas")?,
        replicas("PeakReplicas")?,
        replicas("FinalReplicas")?,
    );
    let latency = match ["P50", "P95", "P99"].map(|name| field(name).is_empty()) {
        [true, true, true] => None,
        [false, false, false] => Some([
            number("P50", 1e-3)?,
            number("P95", 1e-3)?,
            number("P99", 1e-3)?,
        ]),
        _ => return Err("P50, P95 and P99: all or none".to_owned()),
    };
    if let Some([p50, p95, p99]) = latency
        && (p50 > p95 || p95 > p99)
    {
        return Err(format!(
            "P50, P95 and P99 are {p50}, {p95} and {p99} ms, and must rise"
        ));
    }
    Ok(ResultRow {
        line,
        users: match field("Users") {
            "" => None,
            _ => Some(number("Users", 1.0)?),
        },
        replicas: match counts {
            (Some(initial), Some(peak), Some(last)) => Some((initial, peak, last)),
            (None, None, None) => None,
            _ => {
                return Err(
                    "InitialReplicas, PeakReplicas and FinalReplicas: all or none".to_owned(),
                );
            }
        },
        rps: number("RPS", 0.0)?,
        latency,
        failure_rate: number("FailureRate", 0.0)?,
    })
}
