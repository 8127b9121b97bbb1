//! The committed dashboard as a picture, for where Grafana is not: each panel's own questions, asked
//! of a Prometheus over the last minutes and drawn in the dashboard's grid. `scripts/dashboard-picture.sh`
//! starts what there is to be seen.
//!
//! ```text
//! cargo run -p aegis-autoscale --example dashboard_picture -- \
//!     k8s/dashboard/inference-slo.json http://127.0.0.1:9090 MINUTES docs/images/dashboard.svg
//! ```

mod answers;
mod dashboard;
mod draw;
mod number;

use std::{error::Error, fs, path::Path, time::SystemTime};

use answers::{Answer, Prometheus};
use dashboard::Dashboard;

/// Points of each line: as many as Grafana would draw in so wide a panel, and few enough for a small
/// picture.
const POINTS: f64 = 84.0;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [dashboard, prometheus, minutes, out] = words.as_slice() else {
        return Err("wanted: DASHBOARD.json PROMETHEUS_URL MINUTES OUT.svg".into());
    };
    let minutes: f64 = minutes
        .parse()
        .ok()
        .filter(|minutes| *minutes > 0.0)
        .ok_or_else(|| format!("`{minutes}` is no number of minutes"))?;
    let text = fs::read_to_string(dashboard).map_err(|error| format!("{dashboard}: {error}"))?;
    let dashboard: Dashboard =
        serde_json::from_str(&text).map_err(|error| format!("{dashboard}: {error}"))?;
    let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let end = end.as_secs_f64();
    let prometheus = Prometheus {
        url: prometheus.clone(),
        start: end - minutes * 60.0,
        end,
        step: minutes * 60.0 / POINTS,
    };
    let mut answers: Vec<Vec<Answer>> = Vec::new();
    for panel in &dashboard.panels {
        let asked = panel.targets.iter().map(|target| prometheus.ask(target));
        answers.push(asked.collect::<Result<_, _>>()?);
    }
    let picture = draw::dashboard(&dashboard, &answers, &prometheus)?;
    if let Some(folder) = Path::new(out).parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(out, picture).map_err(|error| format!("{out}: {error}"))?;
    Ok(())
}
