//! Expressions in words.

use crate::expression::CronExpression;

/// The expression in words.
pub(crate) fn describe(expression: &CronExpression) -> String {
    format!("at {}", expression.as_str())
}
