//! Pages: how large one is, and a cursor that is none of its list.

use crate::error::StorageError;
use crate::job::excerpt;
use crate::monitor::{Cursor, PAGE_MAX};

/// How large a page is when nobody says.
pub const PAGE_DEFAULT: u32 = 50;

/// How large a page is that is to have so many entries at most; 0 means [`PAGE_DEFAULT`], and no page is larger
/// than [`PAGE_MAX`].
pub fn size(max: u32) -> usize {
    let max = if max == 0 { PAGE_DEFAULT } else { max };
    max.min(PAGE_MAX) as usize
}

/// The refusal of a cursor at which no page of this list has ended.
pub fn refuse(cursor: &Cursor) -> StorageError {
    let text = excerpt(&cursor.0);
    StorageError::Unsupported(format!(
        "`{text}` is not where a page of this list ended; begin again without it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_size_that_is_asked_for_within_bounds() {
        let sizes = [(0, 50), (1, 1), (PAGE_MAX, 500), (PAGE_MAX + 1, 500), (u32::MAX, 500)];
        for (max, expected) in sizes {
            assert_eq!(size(max), expected, "{max}");
        }
    }

    #[test]
    fn a_foreign_cursor_is_named() {
        let refusal = refuse(&Cursor("else\nwhere".into())).to_string();
        assert!(refusal.contains(r"`else\nwhere` is not where"), "{refusal}");
    }
}
