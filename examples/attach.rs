//! How many searches per second do N processes answer on one database, each attached to the server's shared memory?
//!
//!     shoal serve ./data
//!     cargo run --release --example attach -- ./data items 4
//!
//! Each process starts this program again as a worker, attaches, and searches for two seconds with vectors of the
//! collection itself. There is one copy of the data, however many processes there are.

use std::error::Error;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use shoaldb::reader::{QueryRequest, Reader, SearchRequest};
use shoaldb::types::ColumnData;

const RUN_TIME: Duration = Duration::from_secs(2);
const TOP_K: usize = 10;
const SAMPLES: usize = 100;
const WORKER: &str = "--worker";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [WORKER, data_dir, collection] => work(data_dir, collection),
        [data_dir, collection] => start(data_dir, collection, 2),
        [data_dir, collection, processes] => start(data_dir, collection, processes.parse()?),
        _ => Err("usage: attach <data_dir> <collection> [processes]".into()),
    }
}

/// Starts the workers and adds up what they print.
fn start(data_dir: &str, collection: &str, processes: usize) -> Result<(), Box<dyn Error>> {
    let program = std::env::current_exe()?;
    let mut workers = Vec::new();
    for _ in 0..processes {
        let arguments = [WORKER, data_dir, collection];
        workers.push(Command::new(&program).args(arguments).stdout(Stdio::piped()).spawn()?);
    }
    let mut total = 0.0;
    for worker in workers {
        let output = worker.wait_with_output()?;
        if !output.status.success() {
            return Err(format!("a worker ended with {}", output.status).into());
        }
        total += String::from_utf8(output.stdout)?.trim().parse::<f64>()?;
    }
    println!("{processes} processes: {total:.0} searches/s, {:.0} per process", total / processes.max(1) as f64);
    Ok(())
}

/// Searches for `RUN_TIME` and prints searches per second.
fn work(data_dir: &str, collection: &str) -> Result<(), Box<dyn Error>> {
    let reader = Reader::attach(data_dir)?;
    let schema = reader.describe("default", collection)?.manifest.schema.clone();
    let field = schema.vector_fields().next().ok_or("the collection has no vector field")?;
    let sample =
        QueryRequest { output_fields: vec![field.name.clone()], limit: Some(SAMPLES), ..QueryRequest::default() };
    let rows = reader.query("default", collection, &sample)?;
    let Some(ColumnData::FloatVector(vectors)) = rows.columns.into_iter().next().map(|column| column.data) else {
        return Err("the collection's vectors are not FloatVector".into());
    };
    let mut searches = 0u32;
    let started = Instant::now();
    for vector in vectors.chunks_exact(field.dim()).cycle() {
        let mut request = SearchRequest::new(vector.to_vec(), TOP_K);
        request.field.clone_from(&field.name);
        reader.search("default", collection, &request)?;
        searches += 1;
        if started.elapsed() >= RUN_TIME {
            break;
        }
    }
    if searches == 0 {
        return Err("the collection has no rows".into());
    }
    println!("{}", f64::from(searches) / started.elapsed().as_secs_f64());
    Ok(())
}
