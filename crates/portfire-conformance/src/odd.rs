//! Texts that have broken storages before.

/// Quotes, escapes, wildcards, scripts, invisible characters and things that look like commands.
pub(crate) const TEXTS: &[&str] = &[
    "'; DROP TABLE job; --",
    "\" OR \"\"=\"",
    "1); DELETE FROM ready WHERE (1=1",
    "$1 $2 :name ?1 {0} %s %n",
    "100%_of_[all]*",
    "back\\slash \\' \\\" \\n \\u0000",
    "line\nbreak\r\n\ttab",
    "redis.call('FLUSHALL')\r\n*1\r\n$8\r\nFLUSHALL\r\n",
    "<script>alert(1)</script>&amp;",
    "\u{1b}[31mred\u{7}\u{8}",
    "é e\u{301} ß İ ı ﬃ",
    "日本語 العربية עברית हिन्दी ไทย",
    "👩‍👩‍👧‍👦 🏳️‍🌈 \u{10ffff}",
    "\u{202e}right to left\u{202c} \u{200b}\u{feff}\u{a0}",
    "\u{fffd}\u{fffe}\u{ffff}",
    " leading and trailing ",
    "",
    "NULL",
    "-1e309",
];
