//! What can be set when the shop is started, and what the shop runs with.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// The settings that every way of starting the shop shares.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// Database file of the shop and its jobs; several processes may share it
    #[arg(long, global = true, value_name = "FILE", default_value = "shop.db")]
    pub db: PathBuf,

    /// Folder for e-mails (`mail/*.eml`) and invoices (`invoices/*.html`)
    #[arg(long, global = true, value_name = "DIR", default_value = "out")]
    pub out: PathBuf,

    /// Jobs that run at a time; 0 to run none here
    #[arg(long, global = true, value_name = "N", default_value_t = 8)]
    pub workers: usize,

    /// SMTP server for the e-mails, such as localhost:1025, instead of files
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub smtp: Option<String>,

    /// How long after a sign-up the coupon is sent: days in a real shop, seconds here, so that you
    /// can watch it
    #[arg(long, global = true, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    pub coupon_after: Duration,

    /// Makes every job so much slower, half before and half after its work, so that a test that
    /// kills the process hits running jobs
    #[arg(long, global = true, value_name = "MS", default_value_t = 0)]
    pub slow_ms: u64,
}

/// Reads `250ms`, `3s`, `10m`, `24h` or `7d`.
///
/// # Errors
/// When it is none of these.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    let number = number.parse::<u64>().ok().filter(|_| millis > 0);
    let millis = number.and_then(|number| number.checked_mul(millis));
    let time = millis.map(Duration::from_millis);
    time.ok_or_else(|| {
        "expected a number with a unit, such as 250ms, 3s, 10m, 24h or 7d".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_needs_a_number_and_a_unit() {
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for text in ["", "7", "s", "-1s", "1.5s", "99999999999999999999s", "99999999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
