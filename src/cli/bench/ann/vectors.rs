//! Files of vectors: .npy, .fvecs, .ivecs, .bvecs, IDX; plain or packed with gzip; HDF5 as ann-benchmarks has it,
//! when this was built with the feature `hdf5`.

use std::path::Path;
use std::process::Command;

use half::f16;

use crate::types::{Error, Metric, Result};

/// The first bytes of a packed file.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const NPY_MAGIC: &[u8] = b"\x93NUMPY";
const HDF5_MAGIC: &[u8] = b"\x89HDF\r\n\x1a\n";

/// What becomes of the elements of a file.
type Convert<T> = fn(Elements<'_>) -> std::result::Result<Vec<T>, String>;

/// Rows of one length.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table<T> {
    /// Elements of a row.
    pub dim: usize,
    /// Row after row.
    pub values: Vec<T>,
}

impl<T> Table<T> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.dim
    }

    /// One row.
    pub fn row(&self, index: usize) -> &[T] {
        &self.values[index * self.dim..][..self.dim]
    }
}

/// What a file of several arrays is read for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// What is searched.
    Base,
    /// What is searched for.
    Queries,
    /// The rows nearest to each query.
    Truth,
}

/// Vectors of a file, as `f32`, to be compared by a metric.
pub(super) fn load(path: &Path, part: Part, metric: Metric) -> Result<Table<f32>> {
    let table = read(path, part, metric, |elements| Ok(elements.floats()))?;
    match table.values.iter().position(|value| !value.is_finite()) {
        Some(place) => Err(Error::invalid(format!(
            "cannot use the vectors of {}: row {} has a value that is no finite number",
            path.display(),
            place / table.dim
        ))),
        None => Ok(table),
    }
}

/// Row numbers of a file: the nearest rows of each query by a metric.
pub(super) fn load_rows(path: &Path, metric: Metric) -> Result<Table<u32>> {
    read(path, Part::Truth, metric, |elements| elements.rows())
}

/// Writes rows as .fvecs or .ivecs.
pub(super) fn store<T: bytemuck::NoUninit>(path: &Path, table: &Table<T>) -> Result<()> {
    let mut bytes = Vec::with_capacity(size_of_val(&table.values[..]) + 4 * table.rows());
    for row in table.values.chunks_exact(table.dim) {
        bytes.extend((table.dim as u32).to_le_bytes());
        bytes.extend_from_slice(bytemuck::cast_slice(row));
    }
    std::fs::write(path, bytes).map_err(|error| Error::io(format_args!("write {}", path.display()), &error))
}

fn read<T: Copy>(path: &Path, part: Part, metric: Metric, convert: Convert<T>) -> Result<Table<T>> {
    let bytes = contents(path)?;
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name = name.trim_end_matches(".gz");
    let parsed = if bytes.starts_with(NPY_MAGIC) {
        npy(&bytes, convert)
    } else if bytes.starts_with(HDF5_MAGIC) {
        hdf5(bytes, part, metric, convert)
    } else if let Some(element) = vecs_element(name) {
        vecs(&bytes, element, convert)
    } else {
        idx(&bytes, convert)
    };
    let table =
        parsed.map_err(|reason| Error::invalid(format!("cannot read vectors from {}: {reason}", path.display())))?;
    match table.values.is_empty() {
        true => Err(Error::invalid(format!("cannot read vectors from {}: there are none in it", path.display()))),
        false => Ok(table),
    }
}

fn contents(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).map_err(|error| Error::io(format_args!("read {}", path.display()), &error))?;
    if !bytes.starts_with(GZIP_MAGIC) {
        return Ok(bytes);
    }
    let unpacked = Command::new("gzip").arg("-dc").arg(path).output();
    let unpacked = unpacked.map_err(|error| Error::io(format_args!("unpack {} with gzip", path.display()), &error))?;
    if unpacked.status.success() {
        return Ok(unpacked.stdout);
    }
    let reason = String::from_utf8_lossy(&unpacked.stderr).trim().to_owned();
    Err(Error::invalid(format!("cannot unpack {}: {reason}", path.display())))
}

/// Little-endian numbers of a type that is known while running.
#[derive(Clone, Copy)]
struct Elements<'a> {
    bytes: &'a [u8],
    element: Element,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    U8,
    I8,
    F16,
    F32,
    F64,
    I32,
    I64,
}

impl Element {
    fn bytes(self) -> usize {
        match self {
            Element::U8 | Element::I8 => 1,
            Element::F16 => 2,
            Element::F32 | Element::I32 => 4,
            Element::F64 | Element::I64 => 8,
        }
    }
}

impl Elements<'_> {
    fn each<T>(self, convert: impl Fn(&[u8]) -> T) -> Vec<T> {
        self.bytes.chunks_exact(self.element.bytes()).map(convert).collect()
    }

    fn floats(self) -> Vec<f32> {
        match self.element {
            Element::U8 => self.each(|bytes| f32::from(bytes[0])),
            Element::I8 => self.each(|bytes| f32::from(bytes[0] as i8)),
            Element::F16 => self.each(|bytes| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()),
            Element::F32 => self.each(|bytes| f32::from_bits(long(bytes) as u32)),
            Element::F64 => self.each(|bytes| f64::from_bits(long(bytes)) as f32),
            Element::I32 => self.each(|bytes| long(bytes) as i32 as f32),
            Element::I64 => self.each(|bytes| long(bytes) as i64 as f32),
        }
    }

    /// What is no number of a row becomes the largest one, which no file has.
    fn rows(self) -> std::result::Result<Vec<u32>, String> {
        match self.element {
            Element::F16 | Element::F32 | Element::F64 => Err("numbers of rows are integers, not floats".to_owned()),
            Element::I8 => Ok(self.each(|bytes| u32::try_from(bytes[0] as i8).unwrap_or(u32::MAX))),
            Element::I32 | Element::I64 | Element::U8 => {
                Ok(self.each(|bytes| u32::try_from(long(bytes)).unwrap_or(u32::MAX)))
            }
        }
    }
}

/// At most eight little-endian bytes.
fn long(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn npy<T: Copy>(bytes: &[u8], convert: Convert<T>) -> std::result::Result<Table<T>, String> {
    // Version 1 tells the header's length in two bytes, later ones in four.
    let (from, length_bytes) = if bytes.get(6) == Some(&1) { (8, 2) } else { (8, 4) };
    let length = long(bytes.get(from..from + length_bytes).ok_or("it ends within its header")?) as usize;
    let body = from + length_bytes + length;
    let header = bytes.get(from + length_bytes..body).ok_or("it ends within its header")?;
    let header = std::str::from_utf8(header).map_err(|_| "its header is no text")?;
    let element = match field(header, "'descr': '", "'") {
        Some("<f4") => Element::F32,
        Some("<f2") => Element::F16,
        Some("<f8") => Element::F64,
        Some("|u1") => Element::U8,
        Some("|i1") => Element::I8,
        Some("<i4" | "<u4") => Element::I32,
        Some("<i8" | "<u8") => Element::I64,
        other => {
            let found = other.unwrap_or("not named");
            return Err(format!(
                "its elements are {found}, not little-endian f2, f4, f8, u1, i1 or integers of 4 or 8 bytes"
            ));
        }
    };
    let shape = field(header, "'shape': (", ")").ok_or("its header names no shape")?;
    let lengths: Vec<usize> = shape.split(',').filter_map(|length| length.trim().parse().ok()).collect();
    let [rows, dim] = lengths[..] else { return Err(format!("its shape is ({shape}), not (rows, dim)")) };
    let wanted = rows.checked_mul(dim).and_then(|count| count.checked_mul(element.bytes()));
    let values = wanted.and_then(|wanted| bytes.get(body..)?.get(..wanted)).ok_or("it ends within its rows")?;
    let mut values = convert(Elements { bytes: values, element })?;
    if header.contains("'fortran_order': True") {
        values = (0..values.len()).map(|at| values[at % dim * rows + at / dim]).collect();
    }
    Ok(Table { dim, values })
}

#[cfg(feature = "hdf5")]
fn hdf5<T>(bytes: Vec<u8>, part: Part, metric: Metric, convert: Convert<T>) -> std::result::Result<Table<T>, String> {
    let failed = |error: hdf5_pure::Error| error.to_string();
    let name = match part {
        Part::Base => "train",
        Part::Queries => "test",
        Part::Truth => "neighbors",
    };
    let file = hdf5_pure::File::from_bytes(bytes).map_err(failed)?;
    if let Some(distance) = file.root().attrs().map_err(failed)?.get("distance").and_then(|value| value.as_str()) {
        check_distance(distance, metric)?;
    }
    let dataset = file.dataset(name).map_err(failed)?;
    let shape = dataset.shape().map_err(failed)?;
    let [_, dim] = shape[..] else { return Err(format!("the shape of {name} is {shape:?}, not [rows, dim]")) };
    let dim = usize::try_from(dim).map_err(|_| format!("{name} has {dim} columns"))?;
    use hdf5_pure::{Datatype, DatatypeByteOrder::LittleEndian};
    let values = match dataset.datatype().map_err(failed)? {
        Datatype::FloatingPoint { size: 2, byte_order: LittleEndian, layout } if layout.exponent_size == 5 => {
            convert(Elements { bytes: &dataset.read_raw().map_err(failed)?, element: Element::F16 })?
        }
        Datatype::FloatingPoint { size: 4 | 8, .. } => {
            let values: Vec<f32> = dataset.read().map_err(failed)?;
            convert(Elements { bytes: bytemuck::cast_slice(&values), element: Element::F32 })?
        }
        Datatype::FixedPoint { .. } => {
            let values: Vec<i64> = dataset.read().map_err(failed)?;
            convert(Elements { bytes: bytemuck::cast_slice(&values), element: Element::I64 })?
        }
        _ => return Err(format!("{name} holds neither integers nor floats of 2 (IEEE), 4 or 8 bytes")),
    };
    Ok(Table { dim, values })
}

/// What ann-benchmarks calls the distance that the true neighbours were found by.
#[cfg(feature = "hdf5")]
fn check_distance(distance: &str, metric: Metric) -> std::result::Result<(), String> {
    let named = match distance.to_ascii_lowercase().as_str() {
        "euclidean" | "l2" => Metric::L2,
        "angular" | "cosine" => Metric::Cosine,
        "ip" | "dot" | "inner_product" => Metric::Ip,
        _ => return Err(format!("its vectors are compared by {distance}, which is not measured here")),
    };
    let name = named.name().to_ascii_lowercase();
    match named == metric {
        true => Ok(()),
        false => Err(format!("its vectors are compared by {distance}: pass --metric {name}")),
    }
}

#[cfg(not(feature = "hdf5"))]
fn hdf5<T>(_: Vec<u8>, _: Part, _: Metric, _: Convert<T>) -> std::result::Result<Table<T>, String> {
    Err("HDF5 is read by a build with the feature hdf5: cargo build --release --bins --features hdf5".to_owned())
}

fn field<'a>(header: &'a str, start: &str, end: &str) -> Option<&'a str> {
    Some(header.split_once(start)?.1.split_once(end)?.0)
}

fn vecs_element(name: &str) -> Option<Element> {
    let (_, extension) = name.rsplit_once('.')?;
    match extension {
        "fvecs" => Some(Element::F32),
        "ivecs" => Some(Element::I32),
        "bvecs" => Some(Element::U8),
        _ => None,
    }
}

/// Every row begins with its number of elements.
fn vecs<T>(bytes: &[u8], element: Element, convert: Convert<T>) -> std::result::Result<Table<T>, String> {
    let dim = long(bytes.get(..4).ok_or("it is empty")?) as usize;
    let row_bytes = dim.checked_mul(element.bytes()).and_then(|bytes| bytes.checked_add(4)).ok_or("it is damaged")?;
    if !bytes.len().is_multiple_of(row_bytes) {
        return Err("its rows differ in length, or it was cut off".to_owned());
    }
    let mut values = Vec::new();
    for row in bytes.chunks_exact(row_bytes) {
        if row[..4] != bytes[..4] {
            return Err("its rows differ in length".to_owned());
        }
        values.append(&mut convert(Elements { bytes: &row[4..], element })?);
    }
    Ok(Table { dim, values })
}

/// The format of MNIST: unsigned bytes; the dimensions of an image are one vector.
fn idx<T>(bytes: &[u8], convert: Convert<T>) -> std::result::Result<Table<T>, String> {
    let unknown = "it is neither .npy, .fvecs, .ivecs, .bvecs nor IDX of unsigned bytes";
    let [0, 0, 8, dimensions, rest @ ..] = bytes else { return Err(unknown.to_owned()) };
    let (lengths, values) = rest.split_at_checked(usize::from(*dimensions) * 4).ok_or(unknown)?;
    let mut lengths =
        lengths.chunks_exact(4).map(|bytes| bytes.iter().fold(0, |value, byte| value << 8 | usize::from(*byte)));
    let rows: usize = lengths.next().ok_or(unknown)?;
    let dim = lengths.try_fold(1usize, |product, length| product.checked_mul(length)).ok_or(unknown)?;
    let values = rows.checked_mul(dim).and_then(|count| values.get(..count)).ok_or("it was cut off")?;
    Ok(Table { dim, values: convert(Elements { bytes: values, element: Element::U8 })? })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const L2: Metric = Metric::L2;

    fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    fn npy_file(descr: &str, order: &str, shape: &str, body: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({shape}), }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn arrays_of_numpy_are_read_in_either_order_and_precision() {
        let body: Vec<u8> = (0..6).flat_map(|value| (value as f32).to_le_bytes()).collect();
        let (_dir, path) = file("a.npy", &npy_file("<f4", "False", "2, 3", &body));
        let table = load(&path, Part::Base, L2).unwrap();
        assert_eq!((table.dim, table.rows(), table.row(1)), (3, 2, &[3.0, 4.0, 5.0][..]));
        let (_dir, path) = file("a.npy", &npy_file("<f4", "True", "3, 2", &body));
        assert_eq!(load(&path, Part::Base, L2).unwrap().values, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let body: Vec<u8> = [1.5, -2.0].into_iter().flat_map(|value| f16::from_f32(value).to_le_bytes()).collect();
        let (_dir, path) = file("a.npy", &npy_file("<f2", "False", "1, 2", &body));
        assert_eq!(load(&path, Part::Base, L2).unwrap().values, [1.5, -2.0]);
        let (_dir, path) =
            file("a.npy", &npy_file("<i8", "False", "1, 2", &[7, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]));
        assert_eq!(load_rows(&path, L2).unwrap().values, [7, 257]);
    }

    #[test]
    fn rows_with_their_length_in_front_are_read() {
        let (_dir, path) = file("a.bvecs", &[2, 0, 0, 0, 8, 9, 2, 0, 0, 0, 1, 255]);
        assert_eq!(load(&path, Part::Base, L2).unwrap(), Table { dim: 2, values: vec![8.0, 9.0, 1.0, 255.0] });
        let (_dir, path) = file("a.ivecs", &[1, 0, 0, 0, 5, 1, 0, 0]);
        assert_eq!(load_rows(&path, L2).unwrap().values, [261]);
        // What is no number of a row is none of any table.
        let (_dir, path) = file("a.npy", &npy_file("|i1", "False", "1, 2", &[7, 255]));
        assert_eq!(load_rows(&path, L2).unwrap().values, [7, u32::MAX]);
    }

    #[test]
    fn images_are_read_through_gzip() {
        let plain = [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4];
        let (_dir, path) = file("plain", &plain);
        assert_eq!(load(&path, Part::Base, L2).unwrap(), Table { dim: 4, values: vec![1.0, 2.0, 3.0, 4.0] });
        let packed = Command::new("gzip").arg("-c").arg(&path).output().unwrap().stdout;
        let (_dir, path) = file("a.gz", &packed);
        assert_eq!(load(&path, Part::Base, L2).unwrap().rows(), 1);
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_refused() {
        let npy = npy_file("<f4", "False", "2, 3", &[0; 23]);
        let none = npy_file("<f4", "False", "0, 3", &[]);
        for (name, bytes) in [
            ("a.npy", &npy[..]),
            ("a.npy", &none[..]),
            ("a.fvecs", &[2, 0, 0, 0, 1]),
            ("a", b"rows"),
            ("a", &[0, 0, 8, 1, 9]),
        ] {
            let (_dir, path) = file(name, bytes);
            assert!(load(&path, Part::Base, L2).is_err(), "{name}");
        }
        let (_dir, path) = file("a.npy", &npy_file(">f4", "False", "1, 1", &[0; 4]));
        assert!(load(&path, Part::Base, L2).unwrap_err().to_string().contains(">f4"));
        let not_a_number: Vec<u8> = [1.0, f32::NAN].into_iter().flat_map(f32::to_le_bytes).collect();
        let (_dir, path) = file("a.npy", &npy_file("<f4", "False", "2, 1", &not_a_number));
        assert!(load(&path, Part::Base, L2).unwrap_err().to_string().contains("row 1"));
        assert!(load_rows(&path, L2).unwrap_err().to_string().contains("integers"));
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(GZIP_MAGIC).unwrap();
        assert!(load(file.path(), Part::Base, L2).is_err());
    }

    #[cfg(feature = "hdf5")]
    #[test]
    fn arrays_of_hdf5_are_read_by_their_names() {
        let mut builder = hdf5_pure::FileBuilder::new();
        builder.create_dataset("train").with_f32_data(&[1.0, 2.0, 3.0, 4.0]).with_shape(&[2, 2]);
        builder.create_dataset("neighbors").with_i32_data(&[1, 0]).with_shape(&[1, 2]);
        let (_dir, path) = file("a.hdf5", &builder.finish().unwrap());
        assert_eq!(load(&path, Part::Base, L2).unwrap(), Table { dim: 2, values: vec![1.0, 2.0, 3.0, 4.0] });
        assert_eq!(load_rows(&path, L2).unwrap(), Table { dim: 2, values: vec![1, 0] });
        assert!(load(&path, Part::Queries, L2).is_err());
    }

    #[cfg(feature = "hdf5")]
    #[test]
    fn halves_of_hdf5_are_read_and_texts_are_refused() {
        let mut builder = hdf5_pure::FileBuilder::new();
        let layout = hdf5_pure::FloatingPointLayout {
            bit_offset: 0,
            bit_precision: 16,
            exponent_location: 10,
            exponent_size: 5,
            mantissa_location: 0,
            mantissa_size: 10,
            exponent_bias: 15,
        };
        let byte_order = hdf5_pure::DatatypeByteOrder::LittleEndian;
        let half = hdf5_pure::Datatype::FloatingPoint { size: 2, byte_order, layout };
        let bytes: Vec<u8> = [1.5, -2.0].into_iter().flat_map(|value| f16::from_f32(value).to_le_bytes()).collect();
        builder.create_dataset("train").with_raw_data(half, bytes, 2).with_shape(&[1, 2]);
        let text = hdf5_pure::Datatype::Opaque { size: 1, tag: Vec::new() };
        builder.create_dataset("test").with_raw_data(text, vec![1, 2], 2).with_shape(&[1, 2]);
        let (_dir, path) = file("a.hdf5", &builder.finish().unwrap());
        assert_eq!(load(&path, Part::Base, L2).unwrap(), Table { dim: 2, values: vec![1.5, -2.0] });
        assert!(load(&path, Part::Queries, L2).unwrap_err().to_string().contains("test holds neither"));
    }

    #[cfg(feature = "hdf5")]
    #[test]
    fn a_metric_that_contradicts_the_file_is_refused_and_the_right_one_is_named() {
        for (distance, metric) in [("euclidean", "l2"), ("angular", "cosine"), ("ip", "ip")] {
            let mut builder = hdf5_pure::FileBuilder::new();
            builder.create_dataset("train").with_f32_data(&[1.0, 2.0]).with_shape(&[1, 2]);
            builder.set_attr("distance", hdf5_pure::AttrValue::String(distance.to_owned()));
            let (_dir, path) = file("a.hdf5", &builder.finish().unwrap());
            for given in [Metric::L2, Metric::Cosine, Metric::Ip] {
                match load(&path, Part::Base, given) {
                    Ok(_) => assert_eq!(given.name().to_ascii_lowercase(), metric),
                    Err(error) => {
                        assert_ne!(given.name().to_ascii_lowercase(), metric);
                        assert!(error.to_string().contains(&format!("{distance}: pass --metric {metric}")), "{error}");
                    }
                }
            }
        }
        assert!(check_distance("hamming", Metric::L2).is_err());
    }

    #[cfg(not(feature = "hdf5"))]
    #[test]
    fn hdf5_is_refused_with_what_to_do() {
        let (_dir, path) = file("a.hdf5", HDF5_MAGIC);
        assert!(load(&path, Part::Queries, L2).unwrap_err().to_string().contains("--features hdf5"));
    }
}
