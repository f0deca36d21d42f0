//! How started signers are watched, and how many are in flight: the same for both ways.

use std::time::Duration;

use clap::Args;

use crate::apply::Settings;

#[derive(Debug, Args)]
pub struct Watch {
    /// How long each started signer is watched, such as 10s
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    soak: Duration,
    /// How many signers are in flight at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
}

impl Watch {
    pub fn settings(&self) -> Settings {
        Settings {
            parallel: usize::from(self.parallel),
            soak: self.soak,
            ..Settings::default()
        }
    }
}

/// A time as people write it: `10s`, `1h 30m`; a bare number means seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let explain = || format!("{text:?} is no time such as 10s, 5m or 2h");
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let read: jiff::SignedDuration = text.parse().map_err(|_| explain())?;
    Duration::try_from(read).map_err(|_| explain())
}
