//! Text to tokens, one at a time, with positions.

use super::error::FilterError;
use super::syntax::Span;

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// The magnitude; a sign is an operator. `None` when it does not fit 64 bits.
    Integer(Option<u64>),
    Float(f64),
    Text(Box<str>),
    /// An identifier or keyword; `$meta` too.
    Name(&'a str),
    Symbol(&'static str),
    IsNull,
    IsNotNull,
    End,
}

/// Longest first, so that `<=` is not read as `<`.
const SYMBOLS: [&str; 35] = [
    "<<", ">>", "<=", ">=", "==", "!=", "=~", "!~", "**", "&&", "||", "<", ">", "=", "!", "~", "+", "-", "*", "/", "%",
    "&", "|", "^", "(", ")", "[", "]", "{", "}", ",", "$", ".", ":", ";",
];

/// Reads tokens of a text.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Lexer<'a> {
    /// Starts at the beginning of a text.
    pub(super) fn new(text: &'a str) -> Lexer<'a> {
        Lexer { text, position: 0 }
    }

    /// The next token and the bytes it is made of.
    pub(super) fn next(&mut self) -> Result<(Token<'a>, Span), FilterError> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.position), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.position += 1;
        }
        let start = self.position;
        let token = match bytes.get(start) {
            None => Token::End,
            Some(b'r' | b'R') if matches!(bytes.get(start + 1), Some(b'"' | b'\'')) => self.raw_string()?,
            Some(b'A'..=b'Z' | b'a'..=b'z' | b'_') => self.name(),
            Some(b'0'..=b'9') => self.number()?,
            Some(b'.') if matches!(bytes.get(start + 1), Some(b'0'..=b'9')) => self.number()?,
            Some(b'"' | b'\'') => self.string()?,
            Some(b'$') if self.text[start..].starts_with("$meta") => self.name(),
            Some(_) => self.symbol()?,
        };
        Ok((token, Span { start: start as u32, end: self.position as u32 }))
    }

    /// An error at a byte of the text, with line and column as Milvus' parser gives them.
    pub(super) fn error_at(&self, position: usize, message: impl std::fmt::Display) -> FilterError {
        let before = super::error::up_to(self.text, position);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&character| character != '\n').count();
        FilterError::expression(format!("line {line}:{column} {message}"))
    }

    /// The tokens of a span, end to end: how Milvus' texts show a part of a filter.
    pub(super) fn shown(text: &str, span: Span) -> String {
        let part = super::error::shorten(text.get(span.start as usize..span.end as usize).unwrap_or_default());
        let mut lexer = Lexer::new(part);
        let mut shown = String::with_capacity(part.len());
        while let Ok((token, span)) = lexer.next() {
            if token == Token::End {
                break;
            }
            shown.push_str(&part[span.start as usize..span.end as usize]);
        }
        shown
    }

    fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }

    fn symbol(&mut self) -> Result<Token<'a>, FilterError> {
        let rest = self.rest();
        match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            Some(symbol) => {
                self.position += symbol.len();
                Ok(Token::Symbol(symbol))
            }
            None => {
                let character = rest.chars().next().unwrap_or_default();
                Err(self.error_at(self.position, format_args!("token recognition error at: '{character}'")))
            }
        }
    }

    fn name(&mut self) -> Token<'a> {
        let rest = self.rest();
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let length = 1 + rest.as_bytes()[1..].iter().take_while(|byte| is_part(byte)).count();
        // `is null` is one token, with exactly one space and in one case, as in Milvus.
        for (words, token) in
            [(["is not null", "IS NOT NULL"], Token::IsNotNull), (["is null", "IS NULL"], Token::IsNull)]
        {
            for word in words {
                if rest.starts_with(word) && !rest.as_bytes().get(word.len()).is_some_and(is_part) {
                    self.position += word.len();
                    return token;
                }
            }
        }
        self.position += length;
        Token::Name(&rest[..length])
    }

    fn number(&mut self) -> Result<Token<'a>, FilterError> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let digits = |from: usize, radix: u32| {
            from + bytes[from..].iter().take_while(|byte| char::from(**byte).is_digit(radix)).count()
        };
        if let [b'0', b'x' | b'X', ..] = bytes {
            return self.hexadecimal();
        }
        if let [b'0', b'b' | b'B', b'0' | b'1', ..] = bytes {
            let end = digits(2, 2);
            self.position += end;
            return Ok(Token::Integer(u64::from_str_radix(&rest[2..end], 2).ok()));
        }
        let mut end = digits(0, 10);
        let whole = end;
        if bytes.get(end) == Some(&b'.') {
            end = digits(end + 1, 10);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + sign, 10);
            if exponent > end + 1 + sign {
                end = exponent;
            }
        }
        let text = &rest[..end];
        self.position += end;
        if end > whole {
            return match text.parse::<f64>() {
                Ok(value) if value.is_finite() => Ok(Token::Float(value)),
                _ => {
                    Err(FilterError::expression(format!("strconv.ParseFloat: parsing \"{text}\": value out of range")))
                }
            };
        }
        if text.len() > 1 && text.starts_with('0') {
            return match u64::from_str_radix(text, 8) {
                Ok(value) => Ok(Token::Integer(Some(value))),
                Err(_) => {
                    Err(self
                        .error_at(self.position, format_args!("mismatched input '{text}' expecting an octal number")))
                }
            };
        }
        Ok(Token::Integer(text.parse().ok()))
    }

    /// `0x1F`, and hexadecimal floats such as `0x1.8p3`.
    fn hexadecimal(&mut self) -> Result<Token<'a>, FilterError> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let digits = |from: usize| {
            from + bytes[from.min(bytes.len())..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count()
        };
        let whole = digits(2);
        let fraction = if bytes.get(whole) == Some(&b'.') { digits(whole + 1) } else { whole };
        if matches!(bytes.get(fraction), Some(b'p' | b'P')) {
            let sign = usize::from(matches!(bytes.get(fraction + 1), Some(b'+' | b'-')));
            let digits_from = fraction + 1 + sign;
            let end = digits_from
                + bytes[digits_from.min(bytes.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let exponent = rest[fraction + 1..end].parse::<i32>().unwrap_or(i32::MAX);
            let mantissa = hexadecimal_value(&rest[2..fraction]);
            let value = mantissa * 2f64.powi(exponent);
            if end == digits_from || fraction < 3 || !value.is_finite() {
                return Err(self.error_at(self.position, format_args!("mismatched input '{}'", &rest[..end])));
            }
            self.position += end;
            return Ok(Token::Float(value));
        }
        if whole == 2 {
            return Err(self.error_at(self.position, "token recognition error at: '0x'"));
        }
        self.position += whole;
        Ok(Token::Integer(u64::from_str_radix(&rest[2..whole], 16).ok()))
    }

    fn raw_string(&mut self) -> Result<Token<'a>, FilterError> {
        let rest = self.rest();
        let quote = rest.as_bytes()[1];
        let end = self.closing_quote(2, quote)?;
        self.position += end + 1;
        Ok(Token::Text(rest[2..end].into()))
    }

    fn string(&mut self) -> Result<Token<'a>, FilterError> {
        let rest = self.rest();
        let quote = rest.as_bytes()[0];
        let end = self.closing_quote(1, quote)?;
        self.position += end + 1;
        let inner = &rest[1..end];
        if !inner.contains('\\') {
            return Ok(Token::Text(inner.into()));
        }
        match unescape(inner) {
            Some(text) => Ok(Token::Text(text)),
            None => Err(FilterError::expression(format!("invalid syntax: string {}", &rest[..=end]))),
        }
    }

    /// Where in the rest of the text the quote is that ends a string.
    fn closing_quote(&self, from: usize, quote: u8) -> Result<usize, FilterError> {
        let bytes = self.rest().as_bytes();
        let mut at = from;
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'\\' => at += 1,
                b'\n' | b'\r' => break,
                _ if byte == quote => return Ok(at),
                _ => {}
            }
            at += 1;
        }
        let shown = super::error::shorten(self.rest());
        Err(self.error_at(self.position, format_args!("token recognition error at: '{shown}'")))
    }
}

/// The value of hexadecimal digits with at most one point among them.
fn hexadecimal_value(digits: &str) -> f64 {
    let mut value = 0.0;
    let mut scale = None;
    for character in digits.chars() {
        match character.to_digit(16) {
            Some(digit) => {
                value = value * 16.0 + f64::from(digit);
                scale = scale.map(|scale: f64| scale / 16.0);
            }
            None => scale = Some(1.0),
        }
    }
    value * scale.unwrap_or(1.0)
}

/// A string's text without its escapes; `None` when one is unknown or the result is not UTF-8.
fn unescape(inner: &str) -> Option<Box<str>> {
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let (&escape, after) = rest.split_first()?;
        rest = after;
        match escape {
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'\\' | b'\'' | b'"' | b'?' => out.push(escape),
            b'x' => out.push(u8::try_from(digits(&mut rest, 2, 16)?).ok()?),
            b'0'..=b'7' => {
                let low = digits(&mut rest, 2, 8)?;
                out.push(u8::try_from(u32::from(escape - b'0') * 64 + low).ok()?);
            }
            b'u' | b'U' => {
                let count = if escape == b'u' { 4 } else { 8 };
                let character = char::from_u32(digits(&mut rest, count, 16)?)?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return None,
        }
    }
    String::from_utf8(out).ok().map(String::into_boxed_str)
}

/// Takes exactly `count` digits.
fn digits(rest: &mut &[u8], count: usize, radix: u32) -> Option<u32> {
    let (taken, after) = rest.split_at_checked(count)?;
    *rest = after;
    taken.iter().try_fold(0u32, |value, byte| value.checked_mul(radix)?.checked_add(char::from(*byte).to_digit(radix)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token<'_>> {
        let mut lexer = Lexer::new(text);
        let mut tokens = Vec::new();
        loop {
            match lexer.next().unwrap().0 {
                Token::End => return tokens,
                token => tokens.push(token),
            }
        }
    }

    #[test]
    fn numbers_are_read_in_every_base() {
        assert_eq!(
            tokens("10 010 0x1F 0b101 .5 1. 1e3 0x1.8p3 9223372036854775808"),
            [
                Token::Integer(Some(10)),
                Token::Integer(Some(8)),
                Token::Integer(Some(31)),
                Token::Integer(Some(5)),
                Token::Float(0.5),
                Token::Float(1.0),
                Token::Float(1000.0),
                Token::Float(12.0),
                Token::Integer(Some(1 << 63)),
            ]
        );
    }

    #[test]
    fn strings_are_unescaped_and_raw_strings_are_not() {
        assert_eq!(
            tokens(r#"'a\'b' "c\"\n\x41\101\u4f60" r"\d+" '你好'"#),
            [
                Token::Text("a'b".into()),
                Token::Text("c\"\nAA你".into()),
                Token::Text(r"\d+".into()),
                Token::Text("你好".into())
            ]
        );
        assert!(Lexer::new(r"'\q'").next().is_err());
        assert!(Lexer::new("'open").next().is_err());
    }

    #[test]
    fn null_tests_are_one_token_with_one_space() {
        assert_eq!(tokens("a is null"), [Token::Name("a"), Token::IsNull]);
        assert_eq!(tokens("a IS NOT NULL"), [Token::Name("a"), Token::IsNotNull]);
        assert_eq!(tokens("a is  null"), [Token::Name("a"), Token::Name("is"), Token::Name("null")]);
        assert_eq!(tokens("is nullable"), [Token::Name("is"), Token::Name("nullable")]);
    }

    #[test]
    fn errors_say_line_and_column() {
        let mut lexer = Lexer::new("a ==\n  @");
        lexer.next().unwrap();
        lexer.next().unwrap();
        assert_eq!(lexer.next().unwrap_err().message, "line 2:2 token recognition error at: '@'");
    }
}
