//! Nodes to predicates: names resolved, types checked, constants folded, in one loop over the nodes.

use super::condition::{ArrayCondition, Condition, JsonCondition, ValueSet};
use super::error::FilterError;
use super::lexer::Lexer;
use super::literal::Literal;
use super::pattern::{Pattern, RegexBudget};
use super::predicate::{FieldIndex, Leaf, Predicate, PredicateId};
use super::syntax::{
    ArithmeticOp, Comparison, ContainsKind, ListItem, MatchKind, Node, NodeId, PathStep, PrefixOp, Span, Syntax,
};
use super::time::{self, Interval};
use super::typing::{self, ArithmeticRef, ColumnRef, Constant, RangeEnd, SignedLeaf};
use super::{TemplateValue, Templates};
use crate::types::{CollectionSchema, DataType, FieldSchema};

/// What a filter means.
pub(super) struct Checked {
    pub(super) predicates: Vec<Predicate>,
    pub(super) root: PredicateId,
    pub(super) fields: Vec<FieldSchema>,
    /// The share of the matching rows to keep.
    pub(super) sample: Option<f64>,
}

/// What a node turned out to be.
enum Operand {
    Constant(Constant),
    Column(ColumnRef),
    Arithmetic(Box<ArithmeticRef>),
    Length(ColumnRef),
    Predicate(PredicateId),
    Sample { factor: f64, predicate: Option<PredicateId> },
    Instant(i64),
    Interval(Interval),
    Moved { column: ColumnRef, by: Box<Interval> },
}

// With these sizes a filter of FILTER_NODES_MAX nodes is planned in about half a gigabyte.
const _: () = assert!(size_of::<Option<Operand>>() <= 48 && size_of::<(Node, Span)>() <= 48);
const _: () = assert!(size_of::<Predicate>() <= 64);

/// Checks a parsed filter.
pub(super) fn check(
    text: &str,
    syntax: Syntax,
    schema: &CollectionSchema,
    templates: &Templates,
) -> Result<Checked, FilterError> {
    let spans = syntax.nodes.iter().map(|(_, span)| *span).collect();
    let operands = Vec::with_capacity(syntax.nodes.len());
    let mut planner = Planner {
        text,
        schema,
        templates,
        spans,
        operands,
        predicates: Vec::new(),
        fields: Vec::new(),
        regex_budget: RegexBudget::default(),
    };
    for (node, span) in syntax.nodes {
        let operand = planner.node(node, span)?;
        planner.operands.push(Some(operand));
    }
    planner.finish()
}

struct Planner<'a> {
    text: &'a str,
    schema: &'a CollectionSchema,
    templates: &'a Templates,
    spans: Vec<Span>,
    /// What the nodes before the current one are; taken by their parents.
    operands: Vec<Option<Operand>>,
    predicates: Vec<Predicate>,
    fields: Vec<FieldSchema>,
    regex_budget: RegexBudget,
}

fn error<T>(message: impl Into<String>) -> Result<T, FilterError> {
    Err(FilterError::expression(message))
}

impl Planner<'_> {
    fn take(&mut self, node: NodeId) -> Operand {
        self.operands[node as usize].take().expect("a node has one parent, which comes after it")
    }

    fn shown(&self, node: NodeId) -> String {
        Lexer::shown(self.text, self.spans[node as usize])
    }

    fn push(&mut self, predicate: Predicate) -> PredicateId {
        self.predicates.push(predicate);
        (self.predicates.len() - 1) as PredicateId
    }

    fn leaf(&mut self, (leaf, is_negated): SignedLeaf) -> Operand {
        Operand::Predicate(self.push(Predicate::Leaf { leaf, is_negated }))
    }

    fn node(&mut self, node: Node, span: Span) -> Result<Operand, FilterError> {
        match node {
            Node::Literal(value) => Ok(constant(value)),
            Node::List(items) => self.list(items),
            Node::Template(name) => self.template(&name),
            Node::Column { name, path } => self.column(&name, &path).map(Operand::Column),
            Node::StructField(name) => error(format!("struct field not found: {name}")),
            Node::Instant(text) => time::instant(&text, &self.templates.zone).map(Operand::Instant),
            Node::Interval(text) => Interval::parse(&text).map(Operand::Interval),
            Node::Prefix { operator, operand } => self.prefix(operator, operand),
            Node::Arithmetic { operator, left, right } => self.arithmetic(operator, left, right, span),
            Node::Shift => error(format!("shift is not supported: {}", Lexer::shown(self.text, span))),
            Node::Compare { comparison, left, right } => self.compare(comparison, left, right, span),
            Node::Range { lower, column, upper, includes_lower, includes_upper } => {
                self.range(column, (lower, includes_lower), (upper, includes_upper))
            }
            Node::In { is_negated, left, right } => self.membership(is_negated, left, right),
            Node::Match { kind, left, right } => self.matching(kind, left, right),
            Node::And(children) => self.chain(&children, true),
            Node::Or(children) => self.chain(&children, false),
            Node::IsNull { column, is_negated } => self.null_test(column, is_negated),
            Node::Exists(operand) => self.exists(operand),
            Node::Contains { kind, column, element } => self.contains(kind, column, element),
            Node::ArrayLength(column) => self.array_length(column),
            Node::RandomSample(factor) => self.random_sample(factor),
            Node::TextMatch { function, field } => self.text_match(function, &field),
        }
    }

    fn list(&mut self, items: Vec<ListItem>) -> Result<Operand, FilterError> {
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            values.push(match item {
                ListItem::Literal(literal) => literal,
                ListItem::Node(node) => match self.take(node) {
                    Operand::Constant(Constant { value, is_template: false }) => value,
                    _ => {
                        let shown = self.shown(node);
                        return error(format!("array element type must be generic value, but got: {shown}"));
                    }
                },
            });
        }
        Ok(constant(Literal::List(values.into())))
    }

    fn template(&self, name: &str) -> Result<Operand, FilterError> {
        let Some(value) = self.templates.values.get(name) else {
            return Err(FilterError::plan(format!(
                "the value of expression template variable name {{{name}}} is not found"
            )));
        };
        let value = template_literal(value).ok_or_else(|| {
            FilterError::plan(format!("the value of expression template variable {{{name}}} is not a constant"))
        })?;
        Ok(Operand::Constant(Constant { value, is_template: true }))
    }

    /// A column by name; a name that is no field is a key of the dynamic field.
    fn column(&mut self, name: &str, path: &[PathStep]) -> Result<ColumnRef, FilterError> {
        let field = match (self.schema.field(name), self.schema.dynamic_field()) {
            (Some(field), _) => field,
            (None, Some(dynamic)) => {
                let index = self.field_index(dynamic);
                let first = PathStep { key: name.into(), index: None, is_quoted: true };
                let path = std::iter::once(first).chain(path.iter().cloned()).collect();
                return Ok(ColumnRef { field: index, data_type: DataType::Json, element_type: None, path });
            }
            (None, None) => return error(format!("field {name} not exist")),
        };
        match field.data_type {
            DataType::Json => {}
            DataType::Array if path.len() > 1 || path.iter().any(|step| step.is_quoted) => {
                return error("can only access array field with integer index");
            }
            DataType::Array => {}
            other if !path.is_empty() => {
                return error(format!("{} data type not supported accessed with []", other.name()));
            }
            _ => {}
        }
        let (data_type, element_type) = (field.data_type, field.element_type);
        Ok(ColumnRef { field: self.field_index(field), data_type, element_type, path: path.into() })
    }

    fn field_index(&mut self, field: &FieldSchema) -> FieldIndex {
        let known = self.fields.iter().position(|other| other.id == field.id);
        known.unwrap_or_else(|| {
            self.fields.push(field.clone());
            self.fields.len() - 1
        }) as FieldIndex
    }

    fn prefix(&mut self, operator: PrefixOp, node: NodeId) -> Result<Operand, FilterError> {
        let symbol = match operator {
            PrefixOp::Plus => "+",
            PrefixOp::Minus => "-",
            PrefixOp::BitNot => "~",
            PrefixOp::Not => "not",
        };
        match (operator, self.take(node)) {
            (PrefixOp::Plus, operand @ (Operand::Column(_) | Operand::Arithmetic(_) | Operand::Constant(_))) => {
                Ok(operand)
            }
            (PrefixOp::Minus, Operand::Constant(Constant { value, is_template })) => {
                let value = match value {
                    Literal::Int(value) => Literal::Int(value.wrapping_neg()),
                    Literal::Float(value) => Literal::Float(-value),
                    _ => return error(format!("unexpected op: {symbol}")),
                };
                Ok(Operand::Constant(Constant { value, is_template }))
            }
            (PrefixOp::Not, Operand::Constant(Constant { value, is_template })) => match value {
                Literal::Bool(value) => Ok(Operand::Constant(Constant { value: Literal::Bool(!value), is_template })),
                _ => error("not can only apply on boolean"),
            },
            (PrefixOp::Not, Operand::Predicate(child)) => Ok(Operand::Predicate(self.push(Predicate::Not(child)))),
            (_, Operand::Sample { .. }) => error("random sample expression cannot be used in unary expression"),
            (PrefixOp::Not, _) => error("not op can only be applied on boolean expression"),
            _ => error(format!("unexpected op: {symbol}")),
        }
    }

    fn arithmetic(
        &mut self,
        operator: ArithmeticOp,
        left: NodeId,
        right: NodeId,
        span: Span,
    ) -> Result<Operand, FilterError> {
        let operands = (self.take(left), self.take(right));
        match operands {
            (Operand::Constant(left), Operand::Constant(right)) => {
                check_no_template(&left, &right, operator.name())?;
                left.value.arithmetic(operator, &right.value).map(constant)
            }
            _ if operator == ArithmeticOp::Power => {
                error(format!("power can only apply on constants: {}", Lexer::shown(self.text, span)))
            }
            (Operand::Column(column), Operand::Constant(operand)) => arithmetic_operand(column, operator, &operand),
            (Operand::Constant(operand), Operand::Column(column)) => match operator {
                ArithmeticOp::Subtract | ArithmeticOp::Divide | ArithmeticOp::Modulo => {
                    error("module field is not yet supported")
                }
                _ => arithmetic_operand(column, operator, &operand),
            },
            (Operand::Column(column), Operand::Interval(by)) if column.data_type == DataType::Timestamptz => {
                match operator {
                    ArithmeticOp::Add => Ok(Operand::Moved { column, by: Box::new(by) }),
                    ArithmeticOp::Subtract => Ok(Operand::Moved { column, by: Box::new(by.negated()) }),
                    _ => error("an interval can only be added to or subtracted from a timestamp"),
                }
            }
            (Operand::Column(_), Operand::Column(_)) => {
                error("not supported to do arithmetic operations between multiple fields")
            }
            (Operand::Arithmetic(_), _) | (_, Operand::Arithmetic(_)) => {
                error("complicated arithmetic operations are not supported")
            }
            _ => error(format!(
                "'{}' can only be used between integer or floating or json field expressions",
                operator.name()
            )),
        }
    }

    fn compare(
        &mut self,
        comparison: Comparison,
        left: NodeId,
        right: NodeId,
        span: Span,
    ) -> Result<Operand, FilterError> {
        let signed = match (self.take(left), self.take(right)) {
            (Operand::Constant(left), Operand::Constant(right)) => {
                check_no_template(&left, &right, comparison.symbol())?;
                return match left.value.compare(comparison, &right.value) {
                    Some(value) => Ok(constant(Literal::Bool(value))),
                    None => error(format!(
                        "comparison operations cannot be applied to two incompatible operands: {}",
                        Lexer::shown(self.text, span)
                    )),
                };
            }
            (Operand::Column(left), Operand::Column(right)) => compare_columns(comparison, &left, &right)?,
            (operand, Operand::Constant(value)) => compare_constant(operand, comparison, &value, false)?,
            (Operand::Constant(value), operand) => compare_constant(operand, comparison.reversed(), &value, true)?,
            (operand, Operand::Instant(instant)) => compare_instant(operand, comparison, instant)?,
            (Operand::Instant(instant), operand) => compare_instant(operand, comparison.reversed(), instant)?,
            _ => return error("only comparison between two fields is supported"),
        };
        Ok(self.leaf(signed))
    }

    fn range(
        &mut self,
        column: NodeId,
        (lower, includes_lower): (NodeId, bool),
        (upper, includes_upper): (NodeId, bool),
    ) -> Result<Operand, FilterError> {
        let Operand::Column(column) = self.take(column) else {
            return error("range operations are only supported on single fields now");
        };
        let Operand::Constant(low) = self.take(lower) else {
            return error(format!("lowerbound cannot be a non-const expression: {}", self.shown(lower)));
        };
        let Operand::Constant(high) = self.take(upper) else {
            return error(format!("upperbound cannot be a non-const expression: {}", self.shown(upper)));
        };
        let low = RangeEnd { constant: &low, is_included: includes_lower };
        let high = RangeEnd { constant: &high, is_included: includes_upper };
        let leaf = typing::range(&column, low, high)?;
        Ok(self.leaf((leaf, false)))
    }

    fn membership(&mut self, is_negated: bool, left: NodeId, right: NodeId) -> Result<Operand, FilterError> {
        let column = match self.take(left) {
            Operand::Column(column) => column,
            Operand::Constant(_) => {
                let shown = self.shown(left);
                return error(format!("'term' can only be used on non-const expression, but got: {shown}"));
            }
            _ => return error(format!("'term' can only be used on single field, but got: {}", self.shown(left))),
        };
        let Operand::Constant(constant) = self.take(right) else {
            let shown = self.shown(right);
            return error(format!("value '{shown}' in list cannot be a non-const expression"));
        };
        let Literal::List(list) = constant.value else {
            let shown = self.shown(right);
            if constant.is_template {
                return Err(FilterError::plan(format!(
                    "the value of term expression template variable {shown} is not array"
                )));
            }
            return error(format!("the right-hand side of 'in' must be a list, but got: {shown}"));
        };
        let leaf = typing::membership(&column, list.into_vec(), constant.is_template)?;
        Ok(self.leaf((leaf, is_negated)))
    }

    fn matching(&mut self, kind: MatchKind, left: NodeId, right: NodeId) -> Result<Operand, FilterError> {
        let name = if kind == MatchKind::Like { "like" } else { "regex" };
        let Operand::Column(column) = self.take(left) else {
            return error(format!("{name} operation on complicated expr is unsupported"));
        };
        if !matches!(column.compared_type(), DataType::VarChar | DataType::Json) {
            column.check_is_scalar()?;
            return error(match kind {
                MatchKind::Like => "like operation on non-string or no-json field is unsupported",
                _ => "regex match on non-string or non-json field is unsupported",
            });
        }
        column.check_is_scalar()?;
        let pattern = match self.take(right) {
            Operand::Constant(Constant { value: Literal::Text(pattern), .. }) => pattern,
            Operand::Constant(Constant { is_template: true, .. }) => {
                return Err(FilterError::plan(format!(
                    "the value of {name} expression template variable {} is not string",
                    self.shown(right)
                )));
            }
            _ => return error(format!("the pattern of {name} must be a string literal or template variable")),
        };
        let budget = &mut self.regex_budget;
        let pattern =
            if kind == MatchKind::Like { Pattern::like(&pattern, budget)? } else { Pattern::regex(&pattern, budget)? };
        let leaf = column.scalar_leaf(Condition::Pattern(pattern));
        Ok(self.leaf((leaf, kind == MatchKind::NotRegex)))
    }

    /// `and` and `or`: constants fold, a random sample may be the last part of an `and`.
    fn chain(&mut self, nodes: &[NodeId], is_and: bool) -> Result<Operand, FilterError> {
        let name = if is_and { "and" } else { "or" };
        let mut children = Vec::with_capacity(nodes.len());
        let mut decided = false;
        let mut sample = None;
        for (index, node) in nodes.iter().enumerate() {
            match self.take(*node) {
                Operand::Predicate(child) => children.push(child),
                // The value that decides nothing drops out, the other one decides the whole.
                Operand::Constant(Constant { value: Literal::Bool(value), .. }) => decided |= value != is_and,
                Operand::Sample { factor, predicate } if is_and && index + 1 == nodes.len() => {
                    children.extend(predicate);
                    sample = Some(factor);
                }
                Operand::Sample { .. } if is_and => {
                    return error(
                        "random sample expression can only be the last expression in the logical and expression",
                    );
                }
                Operand::Sample { .. } => {
                    return error("random sample expression cannot be used in logical or expression");
                }
                _ => return error(format!("'{name}' can only be used between boolean expressions")),
            }
        }
        let whole = match children.as_slice() {
            _ if decided => Err(!is_and),
            [] => Err(is_and),
            [child] => Ok(*child),
            _ if is_and => Ok(self.push(Predicate::And(children.into()))),
            _ => Ok(self.push(Predicate::Or(children.into()))),
        };
        Ok(match (sample, whole) {
            (Some(factor), whole) => {
                let predicate = whole.unwrap_or_else(|value| self.push(Predicate::Constant(value)));
                Operand::Sample { factor, predicate: Some(predicate) }
            }
            (None, Ok(predicate)) => Operand::Predicate(predicate),
            (None, Err(value)) => constant(Literal::Bool(value)),
        })
    }

    fn null_test(&mut self, node: NodeId, is_negated: bool) -> Result<Operand, FilterError> {
        let Operand::Column(column) = self.take(node) else {
            return error("IsNull/IsNotNull operations are only supported on fields");
        };
        let field = column.field;
        if column.data_type.is_vector() {
            return error("IsNull/IsNotNull operations are not supported on vector fields");
        }
        if column.path.is_empty() {
            return Ok(self.leaf((Leaf::Null { field }, is_negated)));
        }
        if column.data_type == DataType::Array {
            return error("IsNull/IsNotNull operations are not supported on array element access");
        }
        Ok(self.leaf((Leaf::Exists { field, path: column.path }, !is_negated)))
    }

    fn exists(&mut self, node: NodeId) -> Result<Operand, FilterError> {
        let Operand::Column(column) = self.take(node) else {
            let shown = self.shown(node);
            return error(format!("exists operations are only supported on single fields now, got: {shown}"));
        };
        if column.data_type != DataType::Json {
            let name = column.data_type.name();
            return error(format!("exists operations are only supportted on json field, got:{name}"));
        }
        if column.path.is_empty() {
            return error("exists operations are only supportted on json key");
        }
        Ok(self.leaf((Leaf::Exists { field: column.field, path: column.path }, false)))
    }

    fn contains(&mut self, kind: ContainsKind, node: NodeId, element: NodeId) -> Result<Operand, FilterError> {
        let (name, operation) = match kind {
            ContainsKind::One => ("contains", "Contains"),
            ContainsKind::All => ("contains_all", "ContainsAll"),
            ContainsKind::Any => ("contains_any", "ContainsAny"),
        };
        let column = match self.take(node) {
            Operand::Column(column) if column.data_type == DataType::Json => column,
            Operand::Column(column) if column.data_type == DataType::Array && column.path.is_empty() => column,
            _ => {
                let shown = self.shown(node);
                return error(format!("{name} operation are only supported on json or array fields now, got: {shown}"));
            }
        };
        let Operand::Constant(Constant { value, .. }) = self.take(element) else {
            let shown = self.shown(element);
            return error(format!("{name} operation are only supported explicitly specified element, got: {shown}"));
        };
        let mut values = match (kind, value) {
            (ContainsKind::One, value) => vec![value],
            (_, Literal::List(list)) => list.into_vec(),
            _ => return error(format!("{operation} operation element must be an array")),
        };
        if values.is_empty() {
            // Every row has all of nothing, none has any of it; null rows too.
            return Ok(Operand::Predicate(self.push(Predicate::Constant(kind == ContainsKind::All))));
        }
        let (DataType::Array, Some(element_type)) = (column.data_type, column.element_type) else {
            let leaf = column.json_leaf(JsonCondition::Contains(kind, Box::new(ValueSet::new(values)?)));
            return Ok(self.leaf((leaf, false)));
        };
        for value in &mut values {
            *value = typing::cast_element(element_type, value).map_err(|cast| match kind {
                ContainsKind::One => cast,
                _ => FilterError::expression(format!(
                    "{operation} operation can't compare between array element type: {} and {}",
                    element_type.name(),
                    value.type_name()
                )),
            })?;
        }
        let leaf = column.array_leaf(element_type, ArrayCondition::Contains(kind, Box::new(ValueSet::new(values)?)));
        Ok(self.leaf((leaf, false)))
    }

    fn array_length(&mut self, node: NodeId) -> Result<Operand, FilterError> {
        match self.take(node) {
            Operand::Column(column) if column.data_type == DataType::Json => Ok(Operand::Length(column)),
            Operand::Column(column) if column.data_type == DataType::Array && column.path.is_empty() => {
                Ok(Operand::Length(column))
            }
            _ => {
                let shown = self.shown(node);
                error(format!("array_length operation are only supported on json or array fields now, got: {shown}"))
            }
        }
    }

    fn random_sample(&mut self, node: NodeId) -> Result<Operand, FilterError> {
        let shown = self.shown(node);
        let Operand::Constant(Constant { value, .. }) = self.take(node) else {
            return error(format!(
                "\"float factor\" should be a const float expression: \"float factor\" passed: {shown}"
            ));
        };
        // Milvus' distance from both ends.
        const MARGIN: f64 = 1e-7;
        match value.number() {
            Some(factor) if factor > MARGIN && factor < 1.0 - MARGIN => Ok(Operand::Sample { factor, predicate: None }),
            _ => error(format!(
                "the sample factor should be between 0 and 1 and not too close to 0 or 1, the difference should be \
                 larger than 1e-7, but got {shown}"
            )),
        }
    }

    fn text_match(&mut self, function: &'static str, field: &str) -> Result<Operand, FilterError> {
        let column = self.column(field, &[])?;
        if column.data_type != DataType::VarChar {
            let words = function.replace('_', " ");
            return error(format!("{words} operation on non-string is unsupported"));
        }
        let is_enabled = self.schema.field(field).and_then(|field| field.type_param("enable_match"));
        if !is_enabled.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return error(format!("field \"{field}\" does not enable match"));
        }
        Err(FilterError::unimplemented(format_args!("the filter function {function}")))
    }

    fn finish(mut self) -> Result<Checked, FilterError> {
        let text = super::error::shorten(self.text);
        let not_boolean = |data_type: &str| {
            Err(FilterError::plan(format!("predicate is not a boolean expression: {text}, data type: {data_type}")))
        };
        let (root, sample) = match self.operands.pop().flatten() {
            Some(Operand::Predicate(root)) => (root, None),
            Some(Operand::Constant(Constant { value: Literal::Bool(value), .. })) => {
                (self.push(Predicate::Constant(value)), None)
            }
            Some(Operand::Sample { factor, predicate }) => {
                let root = predicate.unwrap_or_else(|| self.push(Predicate::Constant(true)));
                (root, Some(factor))
            }
            Some(Operand::Constant(constant)) => return not_boolean(constant.value.type_name()),
            Some(Operand::Column(column)) => return not_boolean(column.data_type.name()),
            Some(Operand::Arithmetic(_) | Operand::Length(_) | Operand::Interval(_)) => return not_boolean("Int64"),
            Some(Operand::Instant(_) | Operand::Moved { .. }) => return not_boolean("Timestamptz"),
            None => return not_boolean("None"),
        };
        Ok(Checked { predicates: self.predicates, root, fields: self.fields, sample })
    }
}

fn arithmetic_operand(column: ColumnRef, operator: ArithmeticOp, operand: &Constant) -> Result<Operand, FilterError> {
    Ok(Operand::Arithmetic(Box::new(ArithmeticRef::new(column, operator, operand)?)))
}

fn constant(value: Literal) -> Operand {
    Operand::Constant(Constant { value, is_template: false })
}

fn check_no_template(left: &Constant, right: &Constant, operator: &str) -> Result<(), FilterError> {
    if left.is_template || right.is_template {
        return error(format!("placeholder was not supported between two constants with operator: {operator}"));
    }
    Ok(())
}

fn compare_constant(
    operand: Operand,
    comparison: Comparison,
    constant: &Constant,
    is_reversed: bool,
) -> Result<SignedLeaf, FilterError> {
    let is_negated = comparison == Comparison::NotEqual;
    match operand {
        Operand::Column(column) => typing::compare_column(&column, comparison, constant, is_reversed),
        Operand::Arithmetic(arithmetic) => arithmetic.compare(comparison, &constant.value),
        Operand::Length(column) => {
            let Literal::Int(length) = constant.value else {
                return Err(typing::cast_error(DataType::Int64, &constant.value));
            };
            let (low, high) = typing::int_range(comparison, length);
            let leaf = match (column.data_type, column.element_type) {
                (DataType::Array, Some(element_type)) => {
                    column.array_leaf(element_type, ArrayCondition::Length { low, high })
                }
                _ => column.json_leaf(JsonCondition::Length { low, high }),
            };
            Ok((leaf, is_negated))
        }
        Operand::Moved { .. } | Operand::Instant(_) => {
            error(format!("comparisons between Timestamptz and {} are not supported", constant.value.type_name()))
        }
        _ => error("not supported to combine multiple fields"),
    }
}

fn compare_columns(comparison: Comparison, left: &ColumnRef, right: &ColumnRef) -> Result<SignedLeaf, FilterError> {
    if left.data_type == DataType::Json || right.data_type == DataType::Json {
        return error("two column comparison with JSON type is not supported");
    }
    left.check_is_scalar()?;
    right.check_is_scalar()?;
    if left.data_type == DataType::Array || right.data_type == DataType::Array {
        return error("two column comparison with array elements is not supported");
    }
    if !typing::can_compare_columns(left.data_type, right.data_type) {
        let (left, right) = (left.type_name(), right.type_name());
        return error(format!("comparisons between {left} and {right} are not supported"));
    }
    if left.data_type == DataType::Bool && !matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
        return error("invalid range operations on boolean expr");
    }
    Ok((Leaf::Columns { left: left.field, comparison, right: right.field }, false))
}

fn compare_instant(operand: Operand, comparison: Comparison, instant: i64) -> Result<SignedLeaf, FilterError> {
    let is_negated = comparison == Comparison::NotEqual;
    let (column, by) = match operand {
        Operand::Column(column) => (column, Interval::default()),
        Operand::Moved { column, by } => (column, *by),
        _ => return error("a timestamp can only be compared with a timestamptz field"),
    };
    if column.data_type != DataType::Timestamptz {
        let name = column.data_type.name();
        return error(format!(
            "field is not a Timestamptz field, got {name}: it cannot be compared with ISO timestamps"
        ));
    }
    // Only an interval with months needs the row's own date; any other moves the constant instead.
    let field = column.field;
    if by.months != 0 {
        let (low, high) = typing::int_range(comparison, instant);
        return Ok((Leaf::Moved { field, by, test: Box::new(Condition::Int { low, high }) }, is_negated));
    }
    let (low, high) = typing::int_range(comparison, instant.saturating_sub(by.microseconds));
    Ok((Leaf::Scalar { field, test: Condition::Int { low, high } }, is_negated))
}

/// A template value as a constant; `None` for what no constant can be.
fn template_literal(value: &TemplateValue) -> Option<Literal> {
    Some(match value {
        TemplateValue::Bool(value) => Literal::Bool(*value),
        TemplateValue::Int(value) => Literal::Int(*value),
        TemplateValue::Float(value) => Literal::Float(*value),
        TemplateValue::Text(text) => Literal::Text(text.as_str().into()),
        TemplateValue::List(values) => Literal::List(values.iter().map(template_literal).collect::<Option<_>>()?),
        TemplateValue::Json(text) => json_literal(&serde_json::from_slice(text).ok()?)?,
    })
}

fn json_literal(value: &serde_json::Value) -> Option<Literal> {
    Some(match value {
        serde_json::Value::Bool(value) => Literal::Bool(*value),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(value) => Literal::Int(value),
            None => Literal::Float(number.as_f64()?),
        },
        serde_json::Value::String(text) => Literal::Text(text.as_str().into()),
        serde_json::Value::Array(values) => Literal::List(values.iter().map(json_literal).collect::<Option<_>>()?),
        serde_json::Value::Null | serde_json::Value::Object(_) => return None,
    })
}
