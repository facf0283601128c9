//! The tour: load, search, look at the processes, measure, kill a searcher.

use std::time::{Duration, Instant};

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use indicatif::{ProgressBar, ProgressStyle};

use super::SEARCHERS;
use super::data::{DIM, vectors, words};
use crate::cli::requests;
use crate::cli::temporary_server::TemporaryServer;
use crate::gateway::client::Client;
use crate::ipc::control::Role;
use crate::ipc::progress::ProgressBlock;
use crate::sys::{process, procfs};
use crate::types::{Error, Result};

const COLLECTION: &str = "words";
const BATCH_ROWS: usize = 1_000;
const SHOWN_WORDS: [&str; 4] = ["king", "paris", "violin", "physics"];
/// Long enough for a steady rate, short enough for a tour.
const MEASURE: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_millis(300);
/// Searches under way at once while measuring: enough to keep every searcher busy.
const CLIENTS: usize = 8;

/// Runs the tour and, unless `exits` is set, waits for Ctrl-C.
pub(super) async fn run(exits: bool) -> Result<()> {
    println!("Starting a server with {SEARCHERS} searchers on a temporary directory ...");
    let mut server = start_server()?;
    let mut client = requests::connect(&server.address).await?;
    let rate = load(&mut client).await?;
    println!("Loaded {} words of {DIM} dimensions at {rate:.0} rows/s.\n", words().len());
    show_nearest(&mut client).await?;
    // Every searcher works once, so that each has mapped the data it shares.
    search_for(&server.address, WARM_UP).await?;
    show_processes(&server)?;
    measure(&server).await?;
    kill_one(&server).await?;
    if !exits {
        println!("\nThe server runs at http://{}: MilvusClient(\"http://{}\")", server.address, server.address);
        println!("Collection: {COLLECTION}. Stop with Ctrl-C, or: shoal stop {}", server.data_dir.display());
        wait_for_end(&mut server).await;
    }
    match server.stop() {
        true => println!("\nThe server is drained; nothing of it is left."),
        false => return Err(Error::internal("the demo's server did not end cleanly")),
    }
    Ok(())
}

fn start_server() -> Result<TemporaryServer> {
    let program = std::env::current_exe().map_err(|error| Error::io("find this program", &error))?;
    let options = ["--searchers", &SEARCHERS.to_string()];
    TemporaryServer::start(&program, &std::env::temp_dir(), "demo", &options)
}

/// Creates the collection and inserts every word; rows per second.
async fn load(client: &mut Client) -> Result<f64> {
    create(client).await?;
    let words = words();
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} words  {per_sec}")
        .map_err(|error| Error::internal(error.to_string()))?;
    let bar = ProgressBar::new(words.len() as u64).with_style(style);
    let started = Instant::now();
    for from in (0..words.len()).step_by(BATCH_ROWS) {
        let to = (from + BATCH_ROWS).min(words.len());
        let texts = words[from..to].iter().map(|word| (*word).to_owned()).collect();
        let others = vec![requests::texts("word", texts)];
        let body = requests::insert(COLLECTION, from as i64, vectors(from, to), DIM, others);
        requests::check_inserted(&requests::send(client, "Insert", body).await?)?;
        bar.inc((to - from) as u64);
    }
    let rate = words.len() as f64 / started.elapsed().as_secs_f64();
    bar.finish_and_clear();
    Ok(rate)
}

async fn create(client: &mut Client) -> Result<()> {
    requests::create_collection(client, COLLECTION, DIM, vec![requests::text_field("word", 64)]).await?;
    let index = vec![requests::pair("index_type", "FLAT"), requests::pair("metric_type", "COSINE")];
    requests::create_index(client, COLLECTION, index).await?;
    requests::load(client, COLLECTION).await
}

/// (row, cosine) of the nearest words.
async fn nearest(client: &mut Client, row: usize, limit: usize) -> Result<Vec<(usize, f32)>> {
    let body = requests::search(COLLECTION, &vectors(row, row + 1), limit);
    let found = requests::found(&requests::send(client, "Search", body).await?)?;
    Ok(found.into_iter().map(|(key, score)| (key as usize, score)).collect())
}

async fn show_nearest(client: &mut Client) -> Result<()> {
    let words = words();
    println!("Nearest words (cosine, exact):");
    for shown in SHOWN_WORDS {
        let Some(row) = words.iter().position(|word| *word == shown) else { continue };
        let found = nearest(client, row, 6).await?;
        if found.first().map(|(first, _)| *first) != Some(row) {
            return Err(Error::internal(format!("the nearest word of {shown} is not itself: {found:?}")));
        }
        let near = found.iter().skip(1).filter_map(|(row, score)| Some(format!("{} {score:.2}", words.get(*row)?)));
        println!("  {shown:<8} {}", near.collect::<Vec<_>>().join(", "));
    }
    println!();
    Ok(())
}

/// A table of the server's processes and what their memory comes to.
fn show_processes(server: &TemporaryServer) -> Result<()> {
    let instance = crate::cli::read_instance(&server.data_dir)?;
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_header([
        "process",
        "pid",
        "RSS MiB",
        "PSS MiB",
        "shared MiB",
        "private MiB",
    ]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    let mut sums = (0, 0);
    for cell in ProgressBlock::read(&instance)? {
        let facts = procfs::read(cell.pid).unwrap_or_default();
        sums = (sums.0 + facts.rss_bytes, sums.1 + facts.pss_bytes);
        table.add_row([
            format!("{} {}", cell.role.name(), cell.index),
            cell.pid.to_string(),
            mib(facts.rss_bytes),
            mib(facts.pss_bytes),
            mib(facts.rss_bytes.saturating_sub(facts.private_bytes)),
            mib(facts.private_bytes),
        ]);
    }
    println!("One copy of the data, mapped by every process:\n{table}");
    println!("RSS counts the copy in every process: {} MiB; PSS counts it once: {} MiB.\n", mib(sums.0), mib(sums.1));
    Ok(())
}

/// Searches per second with 1, 2, ... searchers at work: the others are stopped (SIGSTOP) meanwhile.
async fn measure(server: &TemporaryServer) -> Result<()> {
    println!("Searches per second ({CLIENTS} at once, k = 10, {} rows scanned each):", words().len());
    let searchers = searcher_pids(server)?;
    let mut at_work = 1;
    while at_work <= searchers.len() {
        let paused = PausedProcesses::pause(&searchers[at_work..])?;
        let (done, failed) = search_for(&server.address, MEASURE).await?;
        drop(paused);
        if failed > 0 {
            return Err(Error::internal(format!("{failed} searches failed with {at_work} searchers")));
        }
        println!(
            "  {at_work} searcher{}: {:.0}",
            if at_work == 1 { " " } else { "s" },
            done as f64 / MEASURE.as_secs_f64()
        );
        at_work *= 2;
    }
    println!();
    Ok(())
}

/// Processes that are stopped until this is dropped.
struct PausedProcesses(Vec<u32>);

impl PausedProcesses {
    fn pause(pids: &[u32]) -> Result<PausedProcesses> {
        let paused = PausedProcesses(pids.to_vec());
        for pid in pids {
            tell(*pid, process::Command::Pause)?;
        }
        Ok(paused)
    }
}

impl Drop for PausedProcesses {
    fn drop(&mut self) {
        for pid in &self.0 {
            // A process that is gone needs no word to go on.
            let _ = process::tell(*pid, process::Command::Resume);
        }
    }
}

fn tell(pid: u32, command: process::Command) -> Result<()> {
    process::tell(pid, command).map_err(|error| Error::io(format_args!("signal searcher {pid}"), &error))
}

fn searcher_pids(server: &TemporaryServer) -> Result<Vec<u32>> {
    let instance = crate::cli::read_instance(&server.data_dir)?;
    let cells = ProgressBlock::read(&instance)?;
    Ok(cells.iter().filter(|cell| cell.role == Role::Searcher && cell.pid != 0).map(|cell| cell.pid).collect())
}

/// Searches with several clients at once; how many were answered rightly, and how many not.
async fn search_for(address: &str, how_long: Duration) -> Result<(usize, usize)> {
    let mut tasks = tokio::task::JoinSet::new();
    let word_count = words().len();
    for number in 0..CLIENTS {
        let mut client = requests::connect(address).await?;
        tasks.spawn(async move {
            let end = Instant::now() + how_long;
            let (mut done, mut failed, mut row) = (0, 0, number);
            while Instant::now() < end {
                match nearest(&mut client, row, 10).await {
                    Ok(found) if found.first().map(|(first, _)| *first) == Some(row) => done += 1,
                    _ => failed += 1,
                }
                // A prime step: no query twice in a row, every word's turn comes.
                row = (row + 7919) % word_count;
            }
            (done, failed)
        });
    }
    let mut sum = (0, 0);
    while let Some(task) = tasks.join_next().await {
        let (done, failed) = task.map_err(|error| Error::internal(error.to_string()))?;
        sum = (sum.0 + done, sum.1 + failed);
    }
    Ok(sum)
}

/// Kills one searcher under load; no search may fail.
async fn kill_one(server: &TemporaryServer) -> Result<()> {
    let Some(victim) = searcher_pids(server)?.first().copied() else {
        return Err(Error::internal("the server has no searcher"));
    };
    println!("kill -9 of searcher {victim} while {CLIENTS} clients search ...");
    let address = server.address.clone();
    let searches = tokio::spawn(async move { search_for(&address, MEASURE).await });
    tokio::time::sleep(MEASURE / 4).await;
    tell(victim, process::Command::Kill)?;
    let (done, failed) = searches.await.map_err(|error| Error::internal(error.to_string()))??;
    println!("  {done} searches answered, {failed} failed; searchers now: {:?}", searcher_pids(server)?);
    if failed > 0 {
        return Err(Error::internal(format!("{failed} searches failed when a searcher was killed")));
    }
    Ok(())
}

/// Waits for Ctrl-C (which the server gets too) or for the server's end.
async fn wait_for_end(server: &mut TemporaryServer) {
    while server.is_running() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
