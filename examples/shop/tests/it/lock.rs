//! Jobs that wait in somebody's database must be readable by the next version of the program.

#[test]
fn stored_jobs_can_still_be_read() {
    // After a change that is meant: `PORTFIRE_LOCK=update cargo test -p shop`, and commit the file.
    portfire::assert_compatible!("jobs.lock");
}
