use portfire::prelude::*;

#[job(cron = "0 24 * * *")]
async fn bad_text() {}

#[job(cron = "0 3 * * *")]
async fn with_an_argument(user_id: u64, #[arg(default)] lang: String) {
    let _ = (user_id, lang);
}

#[job(every = "90s")]
async fn with_a_parent(#[parent] rows: u64) {
    let _ = rows;
}

#[job(cron = "0 3 * * *", every = "90s")]
async fn two_schedules() {}

#[job(every = "90s", tz = "Europe/Amsterdam")]
async fn zone_of_an_interval() {}

#[job(every = "10ms")]
async fn too_often() {}

#[job(misfire = skip, overlap = skip, jitter = "5m")]
async fn rules_of_nothing() {}

#[job(cron = "0 3 * * *", misfire = ignore, overlap = queue, jitter = "2d")]
async fn unknown_rules() {}

#[job(cron = "0 3 * * *", unique(by("lang")))]
async fn key_of_what_nobody_passes(lang: Option<String>) {
    let _ = lang;
}

fn main() {}
