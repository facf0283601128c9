//! Tokens to nodes: a Pratt parser whose recursion follows nesting only, which is bounded; chains and lists are loops.

use super::error::FilterError;
use super::lexer::{Lexer, Token};
use super::literal::Literal;
use super::syntax::{
    ArithmeticOp, Comparison, ContainsKind, ListItem, MatchKind, Node, NodeId, PathStep, PrefixOp, Span, Syntax,
};
use crate::config::limits::{FILTER_BYTES_MAX, FILTER_DEPTH_MAX, FILTER_NODES_MAX};

/// How tightly operators bind; larger is tighter.
mod binding {
    pub(super) const ANY: u8 = 0;
    pub(super) const OR: u8 = 1;
    pub(super) const AND: u8 = 2;
    pub(super) const BIT_OR: u8 = 3;
    pub(super) const BIT_XOR: u8 = 4;
    pub(super) const BIT_AND: u8 = 5;
    pub(super) const EQUALITY: u8 = 6;
    pub(super) const RELATION: u8 = 7;
    pub(super) const IN: u8 = 8;
    pub(super) const SHIFT: u8 = 9;
    pub(super) const SUM: u8 = 10;
    pub(super) const PRODUCT: u8 = 11;
    pub(super) const PREFIX: u8 = 12;
    pub(super) const POWER: u8 = 13;
    pub(super) const MATCH: u8 = 14;
    pub(super) const EXISTS: u8 = 15;
}

/// An operator between two operands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Infix {
    Or,
    And,
    Arithmetic(ArithmeticOp),
    Compare(Comparison),
    In,
    NotIn,
    Shift,
    Match(MatchKind),
}

impl Infix {
    fn binding(self) -> u8 {
        match self {
            Infix::Or => binding::OR,
            Infix::And => binding::AND,
            Infix::Compare(Comparison::Equal | Comparison::NotEqual) => binding::EQUALITY,
            Infix::Compare(_) => binding::RELATION,
            Infix::In | Infix::NotIn => binding::IN,
            Infix::Shift => binding::SHIFT,
            Infix::Match(_) => binding::MATCH,
            Infix::Arithmetic(operator) => match operator {
                ArithmeticOp::BitOr => binding::BIT_OR,
                ArithmeticOp::BitXor => binding::BIT_XOR,
                ArithmeticOp::BitAnd => binding::BIT_AND,
                ArithmeticOp::Add | ArithmeticOp::Subtract => binding::SUM,
                ArithmeticOp::Multiply | ArithmeticOp::Divide | ArithmeticOp::Modulo => binding::PRODUCT,
                ArithmeticOp::Power => binding::POWER,
            },
        }
    }
}

/// Parses a filter that is not blank.
pub(super) fn parse(text: &str) -> Result<Syntax, FilterError> {
    if text.len() > FILTER_BYTES_MAX {
        return Err(FilterError::expression(format!(
            "the expression has {} bytes, at most {FILTER_BYTES_MAX} are allowed; pass long lists as template values",
            text.len()
        )));
    }
    let mut parser = Parser::new(text)?;
    parser.expression(binding::ANY)?;
    if parser.token != Token::End {
        return Err(FilterError::expression(format!("invalid expression: {}", super::error::shorten(text))));
    }
    match parser.refused {
        Some(refused) => Err(refused),
        None => Ok(Syntax { nodes: parser.nodes }),
    }
}

struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    token: Token<'a>,
    span: Span,
    /// Where the last token taken ends.
    end: u32,
    nodes: Vec<(Node, Span)>,
    depth: usize,
    /// The first thing that is right but cannot be evaluated; said only when the whole text parses.
    refused: Option<FilterError>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Parser<'a>, FilterError> {
        let mut lexer = Lexer::new(text);
        let (token, span) = lexer.next()?;
        Ok(Parser { text, lexer, token, span, end: 0, nodes: Vec::new(), depth: 0, refused: None })
    }

    /// Takes the current token.
    fn take(&mut self) -> Result<Token<'a>, FilterError> {
        let (token, span) = self.lexer.next()?;
        self.end = self.span.end;
        self.span = span;
        Ok(std::mem::replace(&mut self.token, token))
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.token, Token::Symbol(token) if token == symbol)
    }

    fn expect(&mut self, symbol: &str) -> Result<(), FilterError> {
        if !self.is_symbol(symbol) {
            return Err(self.mismatch(&format!("'{symbol}'")));
        }
        self.take().map(|_| ())
    }

    fn mismatch(&self, expected: &str) -> FilterError {
        let input = match self.token {
            Token::End => "<EOF>",
            _ => super::error::shorten(&self.text[self.span.start as usize..self.span.end as usize]),
        };
        self.lexer.error_at(self.span.start as usize, format_args!("mismatched input '{input}' expecting {expected}"))
    }

    fn push(&mut self, node: Node, start: u32) -> NodeId {
        self.nodes.push((node, Span { start, end: self.end }));
        (self.nodes.len() - 1) as NodeId
    }

    fn start_of(&self, node: NodeId) -> u32 {
        self.nodes[node as usize].1.start
    }

    fn refuse(&mut self, what: impl std::fmt::Display) {
        self.refused.get_or_insert_with(|| FilterError::unimplemented(what));
    }

    /// An expression whose operators bind at least as tightly as `binding_min`.
    fn expression(&mut self, binding_min: u8) -> Result<NodeId, FilterError> {
        let left = self.operand()?;
        self.operators(left, binding_min)
    }

    /// The operators after a first operand.
    fn operators(&mut self, mut left: NodeId, binding_min: u8) -> Result<NodeId, FilterError> {
        while let Some(infix) = self.infix() {
            if infix.binding() < binding_min {
                break;
            }
            left = match infix {
                Infix::And | Infix::Or => self.chain(left, infix)?,
                Infix::Compare(comparison) => self.comparison(left, comparison)?,
                _ => self.binary(left, infix)?,
            };
        }
        Ok(left)
    }

    fn infix(&self) -> Option<Infix> {
        Some(match &self.token {
            Token::Symbol(symbol) => match *symbol {
                "||" => Infix::Or,
                "&&" => Infix::And,
                "|" => Infix::Arithmetic(ArithmeticOp::BitOr),
                "^" => Infix::Arithmetic(ArithmeticOp::BitXor),
                "&" => Infix::Arithmetic(ArithmeticOp::BitAnd),
                "+" => Infix::Arithmetic(ArithmeticOp::Add),
                "-" => Infix::Arithmetic(ArithmeticOp::Subtract),
                "*" => Infix::Arithmetic(ArithmeticOp::Multiply),
                "/" => Infix::Arithmetic(ArithmeticOp::Divide),
                "%" => Infix::Arithmetic(ArithmeticOp::Modulo),
                "**" => Infix::Arithmetic(ArithmeticOp::Power),
                "==" => Infix::Compare(Comparison::Equal),
                "!=" => Infix::Compare(Comparison::NotEqual),
                "<" => Infix::Compare(Comparison::Less),
                "<=" => Infix::Compare(Comparison::LessEqual),
                ">" => Infix::Compare(Comparison::Greater),
                ">=" => Infix::Compare(Comparison::GreaterEqual),
                "<<" | ">>" => Infix::Shift,
                "=~" => Infix::Match(MatchKind::Regex),
                "!~" => Infix::Match(MatchKind::NotRegex),
                // `not in` in symbols: `a ! in [..]`; what follows is checked when it is taken.
                "!" => Infix::NotIn,
                _ => return None,
            },
            Token::Name(name) => match *name {
                "or" | "OR" => Infix::Or,
                "and" | "AND" => Infix::And,
                "in" | "IN" => Infix::In,
                "not" | "NOT" => Infix::NotIn,
                "like" | "LIKE" => Infix::Match(MatchKind::Like),
                _ => return None,
            },
            _ => return None,
        })
    }

    /// `a and b and c`: one node for the whole chain.
    fn chain(&mut self, left: NodeId, infix: Infix) -> Result<NodeId, FilterError> {
        let start = self.start_of(left);
        let mut operands = vec![left];
        while self.infix() == Some(infix) {
            self.take()?;
            operands.push(self.expression(infix.binding() + 1)?);
        }
        let node = if infix == Infix::And { Node::And(operands) } else { Node::Or(operands) };
        Ok(self.push(node, start))
    }

    fn binary(&mut self, left: NodeId, infix: Infix) -> Result<NodeId, FilterError> {
        let start = self.start_of(left);
        self.take()?;
        if infix == Infix::NotIn {
            if !matches!(self.token, Token::Name("in" | "IN")) {
                return Err(self.mismatch("'in'"));
            }
            self.take()?;
        }
        let right = self.expression(infix.binding() + 1)?;
        let node = match infix {
            Infix::In | Infix::NotIn => Node::In { is_negated: infix == Infix::NotIn, left, right },
            Infix::Match(kind) => Node::Match { kind, left, right },
            Infix::Arithmetic(operator) => Node::Arithmetic { operator, left, right },
            _ => Node::Shift,
        };
        Ok(self.push(node, start))
    }

    /// `a < b`, or the chained range `lower < column <= upper`.
    fn comparison(&mut self, left: NodeId, comparison: Comparison) -> Result<NodeId, FilterError> {
        let start = self.start_of(left);
        self.take()?;
        let middle = self.expression(Infix::Compare(comparison).binding() + 1)?;
        let second = match self.infix() {
            Some(Infix::Compare(second)) if is_same_direction(comparison, second) => second,
            _ => return Ok(self.push(Node::Compare { comparison, left, right: middle }, start)),
        };
        if !matches!(self.nodes[middle as usize].0, Node::Column { .. } | Node::StructField(_)) {
            return Ok(self.push(Node::Compare { comparison, left, right: middle }, start));
        }
        self.take()?;
        let right = self.expression(binding::RELATION + 1)?;
        let includes = |comparison| matches!(comparison, Comparison::LessEqual | Comparison::GreaterEqual);
        let (first, second) = (includes(comparison), includes(second));
        let node = if matches!(comparison, Comparison::Less | Comparison::LessEqual) {
            Node::Range { lower: left, column: middle, upper: right, includes_lower: first, includes_upper: second }
        } else {
            Node::Range { lower: right, column: middle, upper: left, includes_lower: second, includes_upper: first }
        };
        Ok(self.push(node, start))
    }

    /// One level deeper: everything that recurses on the text goes through here.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, FilterError>) -> Result<T, FilterError> {
        if self.depth >= FILTER_DEPTH_MAX {
            return Err(self.lexer.error_at(
                self.span.start as usize,
                format_args!("the expression is nested deeper than {FILTER_DEPTH_MAX} levels"),
            ));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// A prefix operator with its operand, or a primary.
    fn operand(&mut self) -> Result<NodeId, FilterError> {
        let start = self.span.start;
        if self.nodes.len() >= FILTER_NODES_MAX {
            return Err(FilterError::expression(format!(
                "the expression has more than {FILTER_NODES_MAX} operands and operators; write long chains of == as in [...]"
            )));
        }
        let operator = match self.token {
            Token::Symbol("+") => PrefixOp::Plus,
            Token::Symbol("-") => PrefixOp::Minus,
            Token::Symbol("~") => PrefixOp::BitNot,
            Token::Symbol("!") | Token::Name("not" | "NOT") => PrefixOp::Not,
            Token::Name("exists" | "EXISTS") => {
                self.take()?;
                let operand = self.nested(|parser| parser.expression(binding::EXISTS))?;
                return Ok(self.push(Node::Exists(operand), start));
            }
            _ => return self.primary(),
        };
        self.take()?;
        if operator == PrefixOp::Minus && self.token == Token::Integer(Some(1 << 63)) {
            self.take()?;
            return Ok(self.push(Node::Literal(Literal::Int(i64::MIN)), start));
        }
        let operand = self.nested(|parser| parser.expression(binding::PREFIX))?;
        Ok(self.push(Node::Prefix { operator, operand }, start))
    }

    fn primary(&mut self) -> Result<NodeId, FilterError> {
        let start = self.span.start;
        if let Some(literal) = self.literal()? {
            return Ok(self.push(Node::Literal(literal), start));
        }
        match self.token {
            Token::Symbol("(") => {
                self.take()?;
                let inner = self.nested(|parser| parser.expression(binding::ANY))?;
                self.expect(")")?;
                // An error shows the parentheses too.
                let node = &mut self.nodes[inner as usize].1;
                *node = Span { start, end: self.end };
                Ok(inner)
            }
            Token::Symbol("[") => {
                self.take()?;
                let items = self.nested(Self::list)?;
                Ok(self.push(Node::List(items), start))
            }
            Token::Symbol("{") => {
                self.take()?;
                let Token::Name(name) = self.token else { return Err(self.mismatch("a template variable name")) };
                self.take()?;
                self.expect("}")?;
                Ok(self.push(Node::Template(name.into()), start))
            }
            Token::Symbol("$") => {
                self.take()?;
                if self.is_symbol("[") {
                    self.take()?;
                    self.take()?;
                    self.expect("]")?;
                }
                self.refuse("an element-level expression ($)");
                Ok(self.push(Node::StructField("$".into()), start))
            }
            Token::Name(name) => self.named(name),
            _ => Err(self.mismatch("an operand")),
        }
    }

    /// Takes a literal, if the current token is one.
    fn literal(&mut self) -> Result<Option<Literal>, FilterError> {
        let literal = match &mut self.token {
            Token::Integer(magnitude) => {
                let value = magnitude.and_then(|magnitude| i64::try_from(magnitude).ok());
                let text = &self.text[self.span.start as usize..self.span.end as usize];
                Literal::Int(value.ok_or_else(|| {
                    let shown = super::error::shorten(text);
                    FilterError::expression(format!("strconv.ParseInt: parsing \"{shown}\": value out of range"))
                })?)
            }
            Token::Float(value) => Literal::Float(*value),
            Token::Text(text) => Literal::Text(std::mem::take(text)),
            Token::Name("true" | "True" | "TRUE") => Literal::Bool(true),
            Token::Name("false" | "False" | "FALSE") => Literal::Bool(false),
            _ => return Ok(None),
        };
        self.take()?;
        Ok(Some(literal))
    }

    /// The elements of `[a, b, c,]`, the opening bracket being taken.
    fn list(&mut self) -> Result<Vec<ListItem>, FilterError> {
        let mut items = Vec::new();
        while !self.is_symbol("]") {
            let start = self.span.start;
            let item = match self.literal()? {
                Some(literal) if self.is_symbol(",") || self.is_symbol("]") => ListItem::Literal(literal),
                Some(literal) => {
                    let left = self.push(Node::Literal(literal), start);
                    ListItem::Node(self.operators(left, binding::ANY)?)
                }
                None => self.signed_item()?,
            };
            items.push(item);
            if !self.is_symbol("]") {
                self.expect(",")?;
            }
        }
        self.take()?;
        Ok(items)
    }

    /// A list element that is no plain literal; a negative number stays out of the node vector.
    fn signed_item(&mut self) -> Result<ListItem, FilterError> {
        let node = self.expression(binding::ANY)?;
        let last = self.nodes.len() - 1;
        if node as usize == last
            && let Node::Prefix { operator: PrefixOp::Minus, operand } = self.nodes[last].0
            && operand as usize + 1 == last
        {
            let literal = match self.nodes[operand as usize].0 {
                Node::Literal(Literal::Int(value)) => Some(Literal::Int(value.wrapping_neg())),
                Node::Literal(Literal::Float(value)) => Some(Literal::Float(-value)),
                _ => None,
            };
            if let Some(literal) = literal {
                self.nodes.truncate(operand as usize);
                return Ok(ListItem::Literal(literal));
            }
        }
        Ok(ListItem::Node(node))
    }

    /// What begins with a name: a function, a column, a timestamp.
    fn named(&mut self, name: &'a str) -> Result<NodeId, FilterError> {
        let start = self.span.start;
        if matches!(name, "null" | "NULL" | "and" | "AND" | "or" | "OR" | "in" | "IN" | "like" | "LIKE") {
            return Err(self.mismatch("an operand"));
        }
        self.take()?;
        if self.is_symbol("(") {
            return self.call(name, start);
        }
        if let Token::Text(text) = &mut self.token
            && matches!(name, "iso" | "ISO" | "interval" | "INTERVAL")
        {
            let text = std::mem::take(text);
            self.take()?;
            let is_instant = name.eq_ignore_ascii_case("iso");
            return Ok(self.push(if is_instant { Node::Instant(text) } else { Node::Interval(text) }, start));
        }
        let column = self.column(name, start)?;
        let is_negated = match self.token {
            Token::IsNull => false,
            Token::IsNotNull => true,
            _ => return Ok(column),
        };
        self.take()?;
        Ok(self.push(Node::IsNull { column, is_negated }, start))
    }

    /// A column with its path, the name being taken.
    fn column(&mut self, name: &'a str, start: u32) -> Result<NodeId, FilterError> {
        let mut path = Vec::new();
        let mut is_struct = false;
        while self.is_symbol("[") {
            self.take()?;
            let written = &self.text[self.span.start as usize..self.span.end as usize];
            match &mut self.token {
                Token::Text(key) => {
                    let key = std::mem::take(key);
                    if key.is_empty() {
                        return Err(FilterError::expression(format!("invalid identifier: {name}[{written}]")));
                    }
                    let index = path_index(&key);
                    path.push(PathStep { key, index, is_quoted: true });
                }
                Token::Integer(Some(_)) if path_index(written).is_some() => {
                    path.push(PathStep { key: written.into(), index: path_index(written), is_quoted: false });
                }
                Token::Name(_) => is_struct = true,
                _ => return Err(self.mismatch("a key in quotes or an index")),
            }
            self.take()?;
            self.expect("]")?;
        }
        let node = if is_struct {
            Node::StructField(Lexer::shown(self.text, Span { start, end: self.end }).into())
        } else {
            Node::Column { name: name.into(), path: path.into() }
        };
        Ok(self.push(node, start))
    }

    /// A function, its name being taken and `(` being the current token.
    fn call(&mut self, name: &'a str, start: u32) -> Result<NodeId, FilterError> {
        self.take()?;
        let is_keyword =
            !name.bytes().any(|byte| byte.is_ascii_uppercase()) || !name.bytes().any(|byte| byte.is_ascii_lowercase());
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            _ if !is_keyword => self.other_call(name, start),
            "json_contains" | "array_contains" => self.contains(ContainsKind::One, start),
            "json_contains_all" | "array_contains_all" => self.contains(ContainsKind::All, start),
            "json_contains_any" | "array_contains_any" => self.contains(ContainsKind::Any, start),
            "array_length" => {
                let column = self.nested(|parser| parser.expression(binding::ANY))?;
                self.expect(")")?;
                Ok(self.push(Node::ArrayLength(column), start))
            }
            "random_sample" => {
                let factor = self.nested(|parser| parser.expression(binding::ANY))?;
                self.expect(")")?;
                Ok(self.push(Node::RandomSample(factor), start))
            }
            "text_match" => self.text_match("text_match", start),
            "phrase_match" => self.text_match("phrase_match", start),
            "text_match_fuzzy" => self.text_match("text_match_fuzzy", start),
            _ => self.other_call(name, start),
        }
    }

    fn contains(&mut self, kind: ContainsKind, start: u32) -> Result<NodeId, FilterError> {
        let column = self.nested(|parser| parser.expression(binding::ANY))?;
        self.expect(",")?;
        let element = self.nested(|parser| parser.expression(binding::ANY))?;
        self.expect(")")?;
        Ok(self.push(Node::Contains { kind, column, element }, start))
    }

    fn text_match(&mut self, function: &'static str, start: u32) -> Result<NodeId, FilterError> {
        let Token::Name(field) = self.token else { return Err(self.mismatch("a field name")) };
        self.take()?;
        self.expect(",")?;
        self.arguments()?;
        Ok(self.push(Node::TextMatch { function, field: field.into() }, start))
    }

    /// A function that is no part of what can be evaluated: it is parsed, then refused by its name.
    fn other_call(&mut self, name: &str, start: u32) -> Result<NodeId, FilterError> {
        self.arguments()?;
        self.refuse(format_args!("the filter function {name}"));
        Ok(self.push(Node::StructField(name.into()), start))
    }

    /// Arguments and `name = value` options up to the closing parenthesis.
    fn arguments(&mut self) -> Result<(), FilterError> {
        let before = self.nodes.len();
        while !self.is_symbol(")") {
            self.nested(|parser| parser.expression(binding::ANY))?;
            if self.is_symbol("=") {
                self.take()?;
                self.nested(|parser| parser.expression(binding::ANY))?;
            }
            if !self.is_symbol(")") {
                self.expect(",")?;
            }
        }
        // Nobody looks at them: they are not planned either.
        self.nodes.truncate(before);
        self.take().map(|_| ())
    }
}

/// `<` with `<=`, `>` with `>=`: only these chain.
fn is_same_direction(first: Comparison, second: Comparison) -> bool {
    let is_less = |comparison| matches!(comparison, Comparison::Less | Comparison::LessEqual);
    let is_greater = |comparison| matches!(comparison, Comparison::Greater | Comparison::GreaterEqual);
    is_less(first) && is_less(second) || is_greater(first) && is_greater(second)
}

/// The index a path step is: a decimal number without a leading zero.
fn path_index(key: &str) -> Option<usize> {
    let is_decimal = key.bytes().all(|byte| byte.is_ascii_digit()) && (key.len() == 1 || !key.starts_with('0'));
    if is_decimal { key.parse().ok() } else { None }
}
