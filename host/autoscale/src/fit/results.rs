//! The CSV that a load test leaves, with the seeds' columns.

/// The header, exactly.
const HEADER: &str = "Timestamp,Users,Workers,Duration,InitialReplicas,PeakReplicas,FinalReplicas,\
                      ScaleUpEvents,ScaleDownEvents,Requests,RPS,P50,P95,P99,MaxLatency,FailureRate";

/// One run of a load test.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultRow {
    /// In the file, from 1.
    pub line: usize,
    /// Users at once.
    pub users: f64,
    /// Replicas at the beginning, at most and at the end; none where nobody could tell.
    pub replicas: Option<(u32, u32, u32)>,
    /// Requests a second.
    pub rps: f64,
    /// In milliseconds.
    pub p50: f64,
    /// In milliseconds.
    pub p95: f64,
    /// In milliseconds.
    pub p99: f64,
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
    lines
        .filter(|(_, text)| !text.trim().is_empty())
        .map(|(index, text)| {
            row(index + 1, text).map_err(|reason| ResultsError::Line {
                line: index + 1,
                reason,
            })
        })
        .collect()
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
    let row = ResultRow {
        line,
        users: number("Users", 1.0)?,
        replicas: match counts {
            (Some(initial), Some(peak), Some(last)) => Some((initial, peak, last)),
            (None, None, None) => None,
            _ => {
                return Err(
                    "InitialReplicas, PeakReplicas and FinalReplicas: all or none".to_owned(),
                );
            }
        },
        rps: number("RPS", 1e-6)?,
        p50: number("P50", 1e-3)?,
        p95: number("P95", 1e-3)?,
        p99: number("P99", 1e-3)?,
        failure_rate: number("FailureRate", 0.0)?,
    };
    if row.p50 > row.p95 || row.p95 > row.p99 {
        return Err(format!(
            "P50, P95 and P99 are {}, {} and {} ms, and must rise",
            row.p50, row.p95, row.p99
        ));
    }
    Ok(row)
}
