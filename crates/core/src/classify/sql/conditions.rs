//! How much a condition leaves of a table.

use super::Rows;
use sqlparser::ast::{BinaryOperator, Expr, Query, Value, Visit, Visitor};
use std::ops::ControlFlow;

/// Rows that a condition leaves: the limit's, where there is one; all, where the condition is none.
pub(super) fn selected(condition: Option<&Expr>, limit: Option<&Expr>) -> Rows {
    if let Some(Expr::Value(value)) = limit
        && let Value::Number(number, _) = &value.value
        && let Ok(n) = number.to_string().parse::<u64>()
    {
        return Rows::Known(n);
    }
    match condition {
        Some(condition) if !always(condition) => Rows::Selected,
        _ => Rows::Unbounded,
    }
}

/// Whether a condition excludes nothing: it has no column in it, compares one with itself, or is such a
/// thing joined by `OR`. A condition that is always false counts as well; nobody writes one in good faith.
fn always(condition: &Expr) -> bool {
    match condition {
        Expr::Nested(inner) => always(inner),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => always(left) && always(right),
        Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
            always(left) || always(right) || opposite(left, right)
        }
        Expr::BinaryOp { left, op, right } => {
            (constant(left) && constant(right))
                || (left == right
                    && matches!(
                        op,
                        BinaryOperator::Eq
                            | BinaryOperator::GtEq
                            | BinaryOperator::LtEq
                            | BinaryOperator::Spaceship
                    ))
        }
        Expr::Like { negated: false, pattern, .. } | Expr::ILike { negated: false, pattern, .. } => {
            let text = pattern.to_string();
            let text = text.trim_matches('\'');
            !text.is_empty() && text.bytes().all(|b| b == b'%')
        }
        Expr::UnaryOp { expr, .. } => constant(expr) || always(expr),
        Expr::IsNotNull(inner) | Expr::IsNull(inner) => constant(inner),
        Expr::IsTrue(inner) | Expr::IsNotFalse(inner) => always(inner),
        Expr::Exists { .. } => true,
        other => constant(other),
    }
}

/// `x IS NULL OR x IS NOT NULL`, `x = 1 OR x <> 1`.
fn opposite(left: &Expr, right: &Expr) -> bool {
    match (left, right) {
        (Expr::IsNull(a), Expr::IsNotNull(b)) | (Expr::IsNotNull(a), Expr::IsNull(b)) => a == b,
        (Expr::BinaryOp { left: a, op: x, right: b }, Expr::BinaryOp { left: c, op: y, right: d }) => {
            a == c
                && b == d
                && matches!(
                    (x, y),
                    (BinaryOperator::Eq, BinaryOperator::NotEq) | (BinaryOperator::NotEq, BinaryOperator::Eq)
                )
        }
        _ => false,
    }
}

/// Whether no column and no sub-query takes part in an expression.
fn constant(expr: &Expr) -> bool {
    struct Columns;
    impl Visitor for Columns {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                // MySQL's and SQLite's way of writing TRUE without a keyword is no column.
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::CompoundFieldAccess { .. } => {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
        fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    // A parameter is a value too, but one that a column is compared with; alone it is no condition.
    expr.visit(&mut Columns).is_continue()
}
