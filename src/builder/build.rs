//! One build: a table file, mapped, to an index file under the name that the writer looks for.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::config::Instance;
use crate::fail_point;
use crate::format::RowSource;
use crate::format::table::TableFile;
use crate::index::{BuildProgress, IMAGE_OFFSET, IndexFile, builder, encode_header, vector_element};
use crate::ipc::control::BuildOrder;
use crate::ipc::progress::{Gauge, ProgressCell};
use crate::kernel::VectorRows;
use crate::sys::map::SharedMap;
use crate::types::{DurableFile, Error, ErrorKind, FieldSchema, Result, Values};

/// Builds the index of an order. One that is there already is left as it is, and `false` returned: its writer died before it took it.
///
/// # Errors
/// When the table file cannot be read, its vectors cannot be indexed, or there is no room for the index.
pub(super) fn build(instance: &Instance, order: &BuildOrder, threads: usize, cell: ProgressCell) -> Result<bool> {
    let made = order.made_path(instance);
    if is_made(&made, order) {
        return Ok(false);
    }
    fail_point!("builder.started").map_err(|error| Error::io("build", &error))?;
    let table = open_table(instance, order)?;
    let rows = vectors(&table, &order.field)?;
    let progress = BuildProgress::observed(move |rows| cell.set(Gauge::BuildRowsDone, rows));
    let build = builder(&order.spec, rows, threads, &progress)?;
    let temporary = made.with_extension("tmp");
    let bytes = IMAGE_OFFSET + build.image_bytes();
    let attempt = || format!("write {} ({bytes} bytes)", temporary.display());
    let file = create(&temporary).map_err(|error| Error::io(attempt(), &error))?;
    let mut map = SharedMap::create(&file, bytes).map_err(|error| Error::io(attempt(), &error))?;
    let (header, image) = map.bytes_mut().split_at_mut(IMAGE_OFFSET);
    build.write(image)?;
    header.copy_from_slice(&encode_header(&order.header(), image)?);
    drop(map);
    fail_point!("builder.built").map_err(|error| Error::io("build", &error))?;
    std::fs::rename(&temporary, &made).map_err(|error| Error::io(attempt(), &error))?;
    Ok(true)
}

/// Whether the file of this very order is there.
fn is_made(made: &Path, order: &BuildOrder) -> bool {
    let map = File::open(made).and_then(|file| SharedMap::read(&file));
    let opened = map.ok().and_then(|map| IndexFile::open(map.into()).ok());
    opened.is_some_and(|file| *file.header() == order.header())
}

/// A new file; what a killed build left under its name goes.
fn create(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::options().read(true).write(true).create_new(true).mode(0o600).open(path)
}

fn open_table(instance: &Instance, order: &BuildOrder) -> Result<TableFile> {
    let path = instance.tables_dir(order.collection).join(DurableFile::Table(order.file).to_string());
    let map = File::open(&path).and_then(|file| SharedMap::read(&file));
    let map = map.map_err(|error| Error::io(format_args!("map {}", path.display()), &error))?;
    let table = TableFile::open(map.into())
        .map_err(|error| Error::new(ErrorKind::Corrupt, format!("cannot read {}: {error}", path.display())))?;
    if table.row_count() as u64 != order.row_count {
        let message = format!("{} has {} rows, not {}", path.display(), table.row_count(), order.row_count);
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    Ok(table)
}

fn vectors<'a>(table: &'a TableFile, field: &FieldSchema) -> Result<VectorRows<'a>> {
    let column = table.column(field).map(|column| column.values);
    let Some(Values::Vector { bytes, row_bytes }) = column else {
        return Err(Error::internal(format!("the table file has no vectors of field {}", field.name)));
    };
    let Some(element) = vector_element(field.data_type) else {
        let name = field.data_type.name();
        return Err(Error::unimplemented(format_args!("an index over vectors of type {name}")));
    };
    let rows = VectorRows { bytes, dim: field.dim(), element };
    match rows.row_bytes() == row_bytes {
        true => Ok(rows),
        false => Err(Error::internal(format!("the vectors of field {} have another dimension", field.name))),
    }
}
