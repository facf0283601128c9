//! Constants of a filter and what folds between them.

use std::cmp::Ordering;

use super::error::FilterError;
use super::syntax::{ArithmeticOp, Comparison};

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Box<str>),
    List(Box<[Literal]>),
}

impl Literal {
    /// Milvus' name of the constant's type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Literal::Bool(_) => "Bool",
            Literal::Int(_) => "Int64",
            Literal::Float(_) => "Double",
            Literal::Text(_) => "VarChar",
            Literal::List(_) => "Array",
        }
    }

    /// The number, when it is one.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Literal::Int(value) => Some(*value as f64),
            Literal::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The constant as Milvus' texts show it (the text form of its protobuf message).
    pub(super) fn shown(&self) -> String {
        match self {
            Literal::Bool(value) => format!("bool_val:{value}"),
            Literal::Int(value) => format!("int64_val:{value}"),
            Literal::Float(value) => format!("float_val:{value}"),
            Literal::Text(value) => format!("string_val:{:?}", super::error::shorten(value)),
            Literal::List(values) => {
                let shown: Vec<_> =
                    values.iter().take(16).map(|value| format!("array:{{{}}}", value.shown())).collect();
                format!("array_val:{{{}}}", shown.join(" "))
            }
        }
    }

    /// Whether two constants are equal the way JSON values are: numbers by value, lists element by element.
    pub(super) fn equals(&self, other: &Literal) -> bool {
        match (self, other) {
            (Literal::Int(left), Literal::Int(right)) => left == right,
            (Literal::List(left), Literal::List(right)) => {
                left.len() == right.len() && left.iter().zip(right).all(|(left, right)| left.equals(right))
            }
            _ => match (self.number(), other.number()) {
                (Some(left), Some(right)) => left == right,
                _ => self == other,
            },
        }
    }

    /// The result of comparing two constants; `None` when they cannot be compared.
    pub(super) fn compare(&self, comparison: Comparison, other: &Literal) -> Option<bool> {
        match (self, other) {
            (Literal::Int(left), Literal::Int(right)) => Some(comparison.holds(left.cmp(right))),
            (Literal::Text(left), Literal::Text(right)) => Some(comparison.holds(left.cmp(right))),
            (Literal::Bool(_), Literal::Bool(_)) | (Literal::List(_), Literal::List(_)) => match comparison {
                Comparison::Equal => Some(self.equals(other)),
                Comparison::NotEqual => Some(!self.equals(other)),
                _ => None,
            },
            _ => {
                let order = self.number()?.partial_cmp(&other.number()?);
                Some(order.map_or(comparison == Comparison::NotEqual, |order| comparison.holds(order)))
            }
        }
    }

    /// The result of an operator between two constants.
    pub(super) fn arithmetic(&self, operator: ArithmeticOp, other: &Literal) -> Result<Literal, FilterError> {
        let name = operator.name();
        let (Some(left), Some(right)) = (self.number(), other.number()) else {
            let of =
                if matches!((self, other), (Literal::Bool(_), _) | (_, Literal::Bool(_))) { "bool" } else { "string" };
            return Err(FilterError::expression(format!("{name} cannot apply on {of} field")));
        };
        if operator == ArithmeticOp::Power {
            return Ok(Literal::Float(left.powf(right)));
        }
        if let (Literal::Int(left), Literal::Int(right)) = (self, other) {
            let result = operator.on_integers(*left, *right);
            return result.map(Literal::Int).ok_or_else(|| FilterError::expression(format!("cannot {name} by zero")));
        }
        if operator.is_integer_only() {
            return Err(FilterError::expression(format!("{name} can only apply on integer")));
        }
        if operator == ArithmeticOp::Divide && right == 0.0 {
            return Err(FilterError::expression("cannot divide by zero"));
        }
        Ok(Literal::Float(operator.on_floats(left, right)))
    }
}

impl Comparison {
    /// Whether the comparison is true of operands in this order.
    pub(super) fn holds(self, order: Ordering) -> bool {
        match self {
            Comparison::Equal => order == Ordering::Equal,
            Comparison::NotEqual => order != Ordering::Equal,
            Comparison::Less => order == Ordering::Less,
            Comparison::LessEqual => order != Ordering::Greater,
            Comparison::Greater => order == Ordering::Greater,
            Comparison::GreaterEqual => order != Ordering::Less,
        }
    }

    /// As it is written.
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Comparison::Less => "<",
            Comparison::LessEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterEqual => ">=",
            Comparison::Equal => "==",
            Comparison::NotEqual => "!=",
        }
    }

    /// The comparison with its operands exchanged.
    pub(super) fn reversed(self) -> Comparison {
        match self {
            Comparison::Less => Comparison::Greater,
            Comparison::LessEqual => Comparison::GreaterEqual,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterEqual => Comparison::LessEqual,
            same => same,
        }
    }
}

impl ArithmeticOp {
    /// Milvus' name.
    pub(super) fn name(self) -> &'static str {
        match self {
            ArithmeticOp::Add => "add",
            ArithmeticOp::Subtract => "subtract",
            ArithmeticOp::Multiply => "multiply",
            ArithmeticOp::Divide => "divide",
            ArithmeticOp::Modulo => "modulo",
            ArithmeticOp::Power => "power",
            ArithmeticOp::BitAnd => "bitand",
            ArithmeticOp::BitXor => "bitxor",
            ArithmeticOp::BitOr => "bitor",
        }
    }

    /// Whether it has no meaning on floating-point numbers.
    pub(super) fn is_integer_only(self) -> bool {
        matches!(self, ArithmeticOp::Modulo | ArithmeticOp::BitAnd | ArithmeticOp::BitXor | ArithmeticOp::BitOr)
    }

    /// On integers as C++ computes them, wrapping; `None` for a division by zero.
    #[inline]
    pub(super) fn on_integers(self, left: i64, right: i64) -> Option<i64> {
        match self {
            ArithmeticOp::Add => Some(left.wrapping_add(right)),
            ArithmeticOp::Subtract => Some(left.wrapping_sub(right)),
            ArithmeticOp::Multiply => Some(left.wrapping_mul(right)),
            ArithmeticOp::Divide => (right != 0).then(|| left.wrapping_div(right)),
            ArithmeticOp::Modulo => (right != 0).then(|| left.wrapping_rem(right)),
            ArithmeticOp::BitAnd => Some(left & right),
            ArithmeticOp::BitXor => Some(left ^ right),
            ArithmeticOp::BitOr => Some(left | right),
            ArithmeticOp::Power => None,
        }
    }

    /// On floating-point numbers; the integer-only operators were refused when the plan was made.
    #[inline]
    pub(super) fn on_floats(self, left: f64, right: f64) -> f64 {
        match self {
            ArithmeticOp::Add => left + right,
            ArithmeticOp::Subtract => left - right,
            ArithmeticOp::Multiply => left * right,
            ArithmeticOp::Divide => left / right,
            ArithmeticOp::Power => left.powf(right),
            ArithmeticOp::Modulo | ArithmeticOp::BitAnd | ArithmeticOp::BitXor | ArithmeticOp::BitOr => f64::NAN,
        }
    }
}
