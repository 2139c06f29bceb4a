use portfire::prelude::*;

fn main() {
    let _ = cron!("0 24 * * *");
    let _ = cron!("*/0 8 * * MON-FRI");
    let _ = cron!("0 8 * * MONDAY");
    let _ = cron!("0 8 * *");
    let _ = cron!("0 0 8 * * * 2026");
    let _ = cron!("@dayly");
    let _ = cron!("");
    let _ = cron!("0 8 L,15 * *");
    let _ = cron!("H 8 * * *");
    let _ = cron!("0 8 * * *", sed = "a");
    let _ = cron!(8);
    let _ = cron!();
    let text = "0 8 * * *";
    let _ = cron!(text);
}
