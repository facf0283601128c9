//! Rows per second through gRPC. Requests are encoded beforehand: the server is measured, not the client.

use std::sync::Barrier;
use std::time::Instant;

use super::Bench;
use super::data::Set;
use super::load::runtime;
use super::report::{Report, median};
use super::requests;
use crate::cli::temporary_server::TemporaryServer;
use crate::types::{Error, Metric, Result};

/// (rows of a batch, batches of one measurement, of all clients together).
const VARIANTS: [(usize, usize); 3] = [(1, 4_000), (100, 2_000), (10_000, 60)];
const CLIENTS: [usize; 2] = [1, 4];
const DIM: usize = 128;

/// Measures every variant in turn, on a fresh collection each.
pub(super) fn run(bench: &Bench, durability: &str, report: &mut Report) -> Result<()> {
    let server = bench.server(&["--searchers", "1", "--durability", durability])?;
    let variants: Vec<_> = VARIANTS.iter().flat_map(|size| CLIENTS.map(|clients| (*size, clients))).collect();
    let mut rates = vec![Vec::new(); variants.len()];
    for _ in 0..bench.repeats {
        for (((batch_rows, batches), clients), rates) in variants.iter().zip(&mut rates) {
            rates.push(measure(&server, *batch_rows, *batches, *clients)?);
        }
    }
    let rows = variants.iter().zip(rates).map(|(((batch_rows, batches), clients), rates)| {
        let best = rates.iter().copied().fold(0.0, f64::max);
        let rate = median(rates);
        vec![
            batch_rows.to_string(),
            clients.to_string(),
            (batch_rows * batches).to_string(),
            format!("{rate:.0}"),
            format!("{best:.0}"),
            format!("{:.1}", rate * (DIM * size_of::<f32>()) as f64 / f64::from(1 << 20)),
        ]
    });
    let title = format!("rows inserted per second, {DIM} dimensions, durability {durability}");
    let header = ["rows per batch", "clients", "rows", "rows/s", "best rows/s", "MiB/s"];
    report.add(&title, &header, rows.collect());
    Ok(())
}

fn measure(server: &TemporaryServer, batch_rows: usize, batches: usize, clients: usize) -> Result<f64> {
    let runtime = runtime()?;
    let mut client = runtime.block_on(requests::connect(&server.address))?;
    runtime.block_on(requests::create(&mut client, DIM, Metric::L2))?;
    let block = Set::Clusters.vectors(0, batch_rows);
    let per_client = batches / clients;
    let body = |batch: usize| requests::insert((batch * batch_rows) as i64, block.clone(), DIM);
    let bodies: Vec<Vec<Vec<u8>>> =
        (0..clients).map(|client| (0..per_client).map(|i| body(client * per_client + i)).collect()).collect();
    let barrier = Barrier::new(clients + 1);
    let seconds = std::thread::scope(|scope| -> Result<f64> {
        let threads: Vec<_> =
            bodies.into_iter().map(|bodies| scope.spawn(|| insert_all(&server.address, bodies, &barrier))).collect();
        barrier.wait();
        let started = Instant::now();
        for thread in threads {
            thread.join().map_err(|_| Error::internal("a client of the bench panicked"))??;
        }
        Ok(started.elapsed().as_secs_f64())
    })?;
    runtime.block_on(requests::drop_collection(&mut client))?;
    Ok((per_client * clients * batch_rows) as f64 / seconds)
}

/// One client: a thread, a connection, one request at a time.
fn insert_all(address: &str, bodies: Vec<Vec<u8>>, barrier: &Barrier) -> Result<()> {
    let runtime = runtime();
    let connected = runtime.and_then(|runtime| Ok((runtime.block_on(requests::connect(address))?, runtime)));
    // Everyone reaches the barrier, whoever failed.
    barrier.wait();
    let (mut client, runtime) = connected?;
    runtime.block_on(async {
        for body in bodies {
            requests::check_inserted(&requests::send(&mut client, "Insert", body).await?)?;
        }
        Ok(())
    })
}
