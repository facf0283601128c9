//! Array rows: how the elements of one row lie in the bytes of a text column.
//!
//! Elements of fixed width follow one another, little-endian (`Bool` a byte). Strings: their number as u32, the end of
//! each as u32 counted from the end of this table, then the bytes.

use super::{DataType, Value};

/// The elements of one row.
#[derive(Clone, Copy, Debug)]
pub struct ArrayRow<'a> {
    bytes: &'a [u8],
    element_type: DataType,
}

/// One element, borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum Element<'a> {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a [u8]),
}

impl<'a> ArrayRow<'a> {
    /// The row whose bytes these are.
    pub fn new(bytes: &'a [u8], element_type: DataType) -> ArrayRow<'a> {
        ArrayRow { bytes, element_type }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match width(self.element_type) {
            Some(width) => self.bytes.len() / width,
            // The bytes may come from a damaged file: no more strings than there are ends.
            None => word(self.bytes, 0).map_or(0, |count| count.min(self.bytes.len() / 4 - 1)),
        }
    }

    /// Bytes of an element; `None` for strings.
    pub fn width(element_type: DataType) -> Option<usize> {
        width(element_type)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An element; `None` behind the last.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Element<'a>> {
        Some(match self.element_type {
            DataType::Bool => Element::Bool(self.fixed::<1>(index)? != [0]),
            DataType::Int8 => Element::Int(i8::from_le_bytes(self.fixed(index)?).into()),
            DataType::Int16 => Element::Int(i16::from_le_bytes(self.fixed(index)?).into()),
            DataType::Int32 => Element::Int(i32::from_le_bytes(self.fixed(index)?).into()),
            DataType::Int64 | DataType::Timestamptz => Element::Int(i64::from_le_bytes(self.fixed(index)?)),
            DataType::Float => Element::Float(f32::from_le_bytes(self.fixed(index)?).into()),
            DataType::Double => Element::Float(f64::from_le_bytes(self.fixed(index)?)),
            _ => Element::Text(self.text(index)?),
        })
    }

    /// The bytes of an element whose width is known where this is called: a copy of a width that is not is a call.
    #[inline]
    fn fixed<const WIDTH: usize>(&self, index: usize) -> Option<[u8; WIDTH]> {
        let (elements, _) = self.bytes.as_chunks::<WIDTH>();
        elements.get(index).copied()
    }

    /// The elements in order.
    pub fn iter(self) -> impl Iterator<Item = Element<'a>> {
        (0..self.len()).map_while(move |index| self.get(index))
    }

    fn text(&self, index: usize) -> Option<&'a [u8]> {
        if index >= self.len() {
            return None;
        }
        let start = if index == 0 { 0 } else { word(self.bytes, index)? };
        let end = word(self.bytes, index + 1)?;
        self.bytes.get(4 * (self.len() + 1)..)?.get(start..end)
    }

    /// The bytes of a row with these values; a value of another type counts as zero, false or empty.
    pub fn encode(values: &[Value], element_type: DataType) -> Vec<u8> {
        ArrayRow::encode_elements(values.iter().map(|value| element_of(value, element_type)), element_type)
    }

    /// The bytes of a row with these elements; an element of another type counts as zero, false or empty.
    pub fn encode_elements<'e>(elements: impl Iterator<Item = Element<'e>>, element_type: DataType) -> Vec<u8> {
        let Some(width) = width(element_type) else {
            let text = |element| if let Element::Text(text) = element { text } else { &[] };
            return ArrayRow::encode_texts(&elements.map(text).collect::<Vec<_>>());
        };
        let word = |element| match (element, element_type) {
            (Element::Bool(value), _) => u64::from(value),
            (Element::Float(value), DataType::Float) => u64::from((value as f32).to_bits()),
            (Element::Float(value), DataType::Double) => value.to_bits(),
            (Element::Int(value), _) => value as u64,
            (Element::Float(_) | Element::Text(_), _) => 0,
        };
        elements.flat_map(|element| word(element).to_le_bytes().into_iter().take(width)).collect()
    }

    /// The bytes of a row of strings, which together are shorter than 4 GiB.
    pub fn encode_texts(texts: &[impl AsRef<[u8]>]) -> Vec<u8> {
        let texts = || texts.iter().map(AsRef::as_ref);
        let count = texts().count();
        let total: usize = texts().map(<[u8]>::len).sum();
        let mut bytes = Vec::with_capacity(4 * (count + 1) + total);
        bytes.extend_from_slice(&(count as u32).to_le_bytes());
        let mut end = 0u32;
        for text in texts() {
            end = end.wrapping_add(text.len() as u32);
            bytes.extend_from_slice(&end.to_le_bytes());
        }
        texts().for_each(|text| bytes.extend_from_slice(text));
        bytes
    }
}

fn element_of(value: &Value, element_type: DataType) -> Element<'_> {
    match value {
        Value::Bool(value) => Element::Bool(*value),
        Value::Int(value) if matches!(element_type, DataType::Float | DataType::Double) => {
            Element::Float(*value as f64)
        }
        Value::Int(value) => Element::Int(*value),
        Value::Float(value) => Element::Float(*value),
        Value::Text(text) => Element::Text(text.as_bytes()),
        Value::Null => Element::Int(0),
    }
}

/// Bytes of an element; `None` for strings.
fn width(element_type: DataType) -> Option<usize> {
    match element_type {
        DataType::Bool | DataType::Int8 => Some(1),
        DataType::Int16 => Some(2),
        DataType::Int32 | DataType::Float => Some(4),
        DataType::Int64 | DataType::Double | DataType::Timestamptz => Some(8),
        _ => None,
    }
}

fn word(bytes: &[u8], index: usize) -> Option<usize> {
    let (words, _) = bytes.as_chunks::<4>();
    words.get(index).map(|word| u32::from_le_bytes(*word) as usize)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn rows_of_every_element_type_read_back() {
        let ints = [Value::Int(-1), Value::Int(100)];
        for element_type in [DataType::Int8, DataType::Int16, DataType::Int32, DataType::Int64] {
            let bytes = ArrayRow::encode(&ints, element_type);
            let row = ArrayRow::new(&bytes, element_type);
            assert_eq!(row.iter().collect::<Vec<_>>(), [Element::Int(-1), Element::Int(100)]);
        }
        let bytes = ArrayRow::encode(&[Value::Float(0.5)], DataType::Float);
        assert_eq!(ArrayRow::new(&bytes, DataType::Float).get(0), Some(Element::Float(0.5)));
        let bytes = ArrayRow::encode(&[Value::Text("ab".into()), Value::Text(String::new())], DataType::VarChar);
        let row = ArrayRow::new(&bytes, DataType::VarChar);
        assert_eq!(row.iter().collect::<Vec<_>>(), [Element::Text(b"ab"), Element::Text(b"")]);
        assert_eq!((row.len(), row.get(2)), (2, None));
    }

    #[test]
    fn damaged_rows_end_early() {
        for bytes in [&[][..], &[1], &[255, 255, 255, 255], &[2, 0, 0, 0, 9, 0, 0, 0, 3, 0, 0, 0, 65]] {
            let row = ArrayRow::new(bytes, DataType::VarChar);
            assert!(row.iter().count() <= 2);
        }
    }
}
