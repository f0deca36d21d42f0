//! Of several measurements the one to show.

use anyhow::{Result, ensure};
use serde::Serialize;

/// The middle one, of an even number the lower of the two.
pub fn median(values: impl IntoIterator<Item = f64>) -> Result<f64> {
    percentile(values, 50)
}

/// The smallest value that this share of them, in percent, doesn't exceed.
pub fn percentile(values: impl IntoIterator<Item = f64>, percent: usize) -> Result<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    ensure!(!values.is_empty(), "nothing was measured");
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1);
    Ok(values[rank - 1])
}

/// How a set of times is spread, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(times: &[f64]) -> Result<Spread> {
        let at = |percent| percentile(times.iter().copied(), percent);
        Ok(Spread {
            p50: at(50)?,
            p99: at(99)?,
            max: at(100)?,
        })
    }

    /// Of several runs' spreads the median of each figure.
    pub fn median(spreads: &[Spread]) -> Result<Spread> {
        Ok(Spread {
            p50: median(spreads.iter().map(|s| s.p50))?,
            p99: median(spreads.iter().map(|s| s.p99))?,
            max: median(spreads.iter().map(|s| s.max))?,
        })
    }
}

/// Seconds or milliseconds, as short as they are told apart.
pub fn seconds(time: f64) -> String {
    match time {
        t if t < 0.1 => format!("{:.1} ms", t * 1000.0),
        t if t < 1.0 => format!("{:.0} ms", t * 1000.0),
        t => format!("{t:.2} s"),
    }
}

pub fn milliseconds(time: f64) -> String {
    seconds(time / 1000.0)
}
