//! What the parser makes of a text: nodes in one vector, children before their parents.
//!
//! The order is what keeps everything after the parser free of recursion: planning is one loop over the vector, and
//! dropping it is dropping a vector, however long the filter is.

use super::literal::Literal;

/// A node's place in [`Syntax::nodes`].
pub(super) type NodeId = u32;

/// Bytes of the text that a node was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// A parsed filter.
#[derive(Debug)]
pub(super) struct Syntax {
    /// Children before parents; the last is the root.
    pub(super) nodes: Vec<(Node, Span)>,
}

/// `< <= > >= == !=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Equal,
    NotEqual,
}

/// Operators between numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArithmeticOp {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    BitAnd,
    BitXor,
    BitOr,
}

/// Prefix operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PrefixOp {
    Plus,
    Minus,
    BitNot,
    Not,
}

/// How a string is matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MatchKind {
    Like,
    Regex,
    NotRegex,
}

/// `contains`, `contains_all`, `contains_any`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContainsKind {
    One,
    All,
    Any,
}

/// One `[...]` after a name: a key of an object or, when it is a plain number, an index of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathStep {
    /// As written, without quotes.
    pub(super) key: Box<str>,
    /// The number it is, if it is one.
    pub(super) index: Option<usize>,
    /// Written in quotes.
    pub(super) is_quoted: bool,
}

/// One element of a list: constants stay out of the node vector, there may be a million of them.
#[derive(Debug)]
pub(super) enum ListItem {
    Literal(Literal),
    Node(NodeId),
}

/// One node.
#[derive(Debug)]
pub(super) enum Node {
    Literal(Literal),
    List(Vec<ListItem>),
    Template(Box<str>),
    Column { name: Box<str>, path: Box<[PathStep]> },
    StructField(Box<str>),
    Instant(Box<str>),
    Interval(Box<str>),
    Prefix { operator: PrefixOp, operand: NodeId },
    Arithmetic { operator: ArithmeticOp, left: NodeId, right: NodeId },
    Shift,
    Compare { comparison: Comparison, left: NodeId, right: NodeId },
    Range { lower: NodeId, column: NodeId, upper: NodeId, includes_lower: bool, includes_upper: bool },
    In { is_negated: bool, left: NodeId, right: NodeId },
    Match { kind: MatchKind, left: NodeId, right: NodeId },
    And(Vec<NodeId>),
    Or(Vec<NodeId>),
    IsNull { column: NodeId, is_negated: bool },
    Exists(NodeId),
    Contains { kind: ContainsKind, column: NodeId, element: NodeId },
    ArrayLength(NodeId),
    RandomSample(NodeId),
    TextMatch { function: &'static str, field: Box<str> },
}
