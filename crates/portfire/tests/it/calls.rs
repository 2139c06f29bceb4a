//! What `#[job]` makes of a function: calls, stored arguments, handlers, descriptors.

use portfire::prelude::*;

#[job]
async fn send_welcome(user_id: u64, lang: &str) -> anyhow::Result<String> {
    Ok(format!("{user_id} {lang}"))
}

#[tokio::test]
async fn a_call_is_its_arguments_by_name() -> anyhow::Result<()> {
    let call = send_welcome(42, "en");
    assert_eq!(call.args().unwrap().as_str(), r#"{"user_id":42,"lang":"en"}"#);
    assert_eq!(call.await.map_err(JobError::into_error)?, "42 en");
    Ok(())
}
