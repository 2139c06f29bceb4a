use portfire::prelude::*;

#[job(unique(by("user")))]
async fn unknown_field(user_id: u64) {
    let _ = user_id;
}

#[job(unique(by = "user_id"))]
async fn field_as_text(user_id: u64) {
    let _ = user_id;
}

#[job(unique(by = "args", key = "a"), timeout = "1m")]
async fn two_keys() {}

#[job(unique(until = started, within = "10m"))]
async fn two_scopes() {}

#[job(unique(key = "order:{id}"))]
async fn unknown_name_in_a_key() {}

#[job(unique(within = "0s"))]
async fn no_time() {}

#[job(unique(on_conflict = fail))]
async fn unknown_conflict() {}

#[job(unique(scope = started))]
async fn unknown_key() {}

#[job(limit("tenant:{tenant_id}", concurrency = 2))]
async fn unknown_parameter(tenant: &str) {
    let _ = tenant;
}

#[job(limit("tenant:{tenant", concurrency = 2))]
async fn half_a_brace(tenant: &str) {
    let _ = tenant;
}

#[job(limit("{tenant}", concurrency = 2))]
async fn no_name(tenant: &str) {
    let _ = tenant;
}

#[job(limit(concurrency = 0))]
async fn limit_of_zero() {}

#[job(limit("mail", rate = "10"))]
async fn rate_without_time() {}

#[job(limit("mail", rate = "ten/s"))]
async fn rate_of_words() {}

#[job(limit("mail", rate = "10/sec"))]
async fn rate_in_an_unknown_unit() {}

#[job(limit("mail", rate = "10/1ms"))]
async fn rate_in_too_short_a_time() {}

#[job(limit("mail", concurrency = 1, window = fixed))]
async fn window_of_nothing() {}

#[job(limit("mail", slots = 1))]
async fn unknown_limit_key() {}

#[job(limit)]
async fn limit_of_nothing() {}

#[job(limit())]
async fn limit_of_nothing_in_parentheses() {}

#[job(limit("a"), limit("b"), limit("c"), limit("d"), limit("e"))]
async fn five_limits() {}

#[job(start_within = "0s")]
async fn never_starts() {}

fn main() {}
