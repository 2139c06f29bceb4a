//! Guards that every statement finds its rows by an index, whatever is stored.

use rusqlite::Connection;

use crate::migrate::migrations;
use crate::{
    batch_pages, batches, change, claim, clean, create, cycle, expiry, history, keys, limits,
    lines, links, locks, members, monitor, names, notes, outbox, outcomes, pages, promote,
    recurring, row, runs, servers, shelves, suspects, told, transaction, unique, waiting, write,
};

/// Statements that look at a whole table, which is small by its nature.
const SMALL: [&str; 14] = [
    "FROM portfire_kind k JOIN portfire_tally t ON t.queue = -k.kind ORDER BY",
    "FROM portfire_outbox WHERE what", // what one commit was too small for
    "FROM portfire_queue q",           // one row for each queue
    "FROM portfire_queue WHERE name >=",
    "FROM portfire_server s", // servers that are alive or died within a day
    "FROM portfire_server WHERE died_at IS NULL AND process",
    "DELETE FROM portfire_server WHERE",
    "FROM portfire_running WHERE server = ?1", // what servers hold
    "FROM portfire_running r CROSS JOIN portfire_job j ON j.seq = r.seq JOIN portfire_queue",
    "FROM portfire_trial", // suspects that are held
    "FROM portfire_server WHERE crashed_with",
    "FROM portfire_lock WHERE +until",     // locks that are held
    "FROM portfire_limit ORDER BY target", // limits that have a rule
    "FROM portfire_running r CROSS JOIN portfire_job j ON j.seq = r.seq WHERE",
];

fn plan(conn: &Connection, sql: &str) -> Vec<String> {
    let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect(sql);
    let rows = explain.raw_query().mapped(|row| row.get(3));
    rows.collect::<rusqlite::Result<_>>().expect(sql)
}

#[test]
fn every_statement_finds_its_rows_by_an_index() {
    let conn = Connection::open_in_memory().unwrap();
    migrations().iter().for_each(|step| conn.execute_batch(step.sql).unwrap());
    let modules = [
        batch_pages::STATEMENTS,
        batches::STATEMENTS,
        links::STATEMENTS,
        members::STATEMENTS,
        outbox::STATEMENTS,
        outcomes::STATEMENTS,
        unique::STATEMENTS,
        change::STATEMENTS,
        claim::STATEMENTS,
        clean::STATEMENTS,
        create::STATEMENTS,
        cycle::STATEMENTS,
        expiry::STATEMENTS,
        history::STATEMENTS,
        keys::STATEMENTS,
        limits::STATEMENTS,
        lines::STATEMENTS,
        locks::STATEMENTS,
        monitor::STATEMENTS,
        names::STATEMENTS,
        notes::STATEMENTS,
        pages::STATEMENTS,
        promote::STATEMENTS,
        recurring::STATEMENTS,
        row::STATEMENTS,
        runs::STATEMENTS,
        servers::STATEMENTS,
        shelves::STATEMENTS,
        suspects::STATEMENTS,
        told::STATEMENTS,
        transaction::STATEMENTS,
        waiting::STATEMENTS,
        write::STATEMENTS,
    ];
    let mut looked_at = 0;
    for sql in modules.into_iter().flatten() {
        if SMALL.iter().any(|small| sql.contains(small)) {
            continue;
        }
        looked_at += 1;
        for step in plan(&conn, sql) {
            // A page goes through the tables in the order of their keys, and stops after a bounded
            // number of rows.
            let in_order = sql.contains("LIMIT") && step.starts_with("SCAN");
            let bounded = in_order && (!sql.contains(" WHERE ") || step.contains("(subquery"));
            let fine = !step.starts_with("SCAN") || bounded;
            assert!(fine, "`{sql}` scans: {step}");
            assert!(!step.contains("TEMP B-TREE"), "`{sql}` sorts: {step}");
        }
    }
    assert!(looked_at > 40, "{looked_at}");
}

#[test]
fn claims_finishes_and_lookups_use_the_index_that_was_made_for_them() {
    let conn = Connection::open_in_memory().unwrap();
    migrations().iter().for_each(|step| conn.execute_batch(step.sql).unwrap());
    let uses = |sql: &str, index: &str| {
        let plan = plan(&conn, sql).join("; ");
        assert!(plan.contains(index), "`{sql}` goes by {plan}");
    };
    uses(claim::SELECT_READY, "SEARCH r USING PRIMARY KEY (queue=?)");
    uses(claim::SELECT_OF_RANK, "SEARCH r USING PRIMARY KEY (queue=? AND rank=?)");
    uses(claim::SELECT_WOKEN, "portfire_ready_woken");
    uses(cycle::SELECT_HELD, "SEARCH j USING INTEGER PRIMARY KEY (rowid=?)");
    uses(row::SELECT_READY_MOVED, "portfire_ready_moved");
    uses(row::SELECT_SCHEDULED_MOVED, "portfire_scheduled_moved");
    uses(promote::SELECT_DUE, "SEARCH portfire_scheduled USING PRIMARY KEY (run_at<?)");
}
