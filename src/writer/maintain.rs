//! The tick: mutable files become immutable, signs of life, gauges, the cut of the log.

use std::time::{Duration, Instant};

use super::engine::Engine;
use super::{deletes, flush, lock};
use crate::ipc::progress::Gauge;
use crate::sys::clock::unix_ms;
use crate::types::Result;

/// Longest time between two signs of life.
const BEAT: Duration = Duration::from_millis(500);
/// The log is cut when it is larger than this: checkpoints of deletes cost more than a little log.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// Ticks until the writer stops.
///
/// # Errors
/// Never: what fails is tried again at the next tick.
pub fn run(engine: &Engine) -> Result<()> {
    let mut flushed = Instant::now();
    let pause = engine.config.auto_flush_interval.min(BEAT);
    while !engine.is_stopping() {
        std::thread::park_timeout(pause);
        engine.publisher.control().beat(unix_ms());
        if flushed.elapsed() >= engine.config.auto_flush_interval {
            flushed = Instant::now();
            flush::rotate_all(&mut lock(&engine.state));
            engine.serialise.raise();
        }
        publish_what_is_behind(engine);
        set_gauges(engine);
        if let Err(error) = cut_large_log(engine) {
            tracing::error!("the log cannot be cut yet: {error}");
        }
    }
    Ok(())
}

/// Manifests that could not be published when they changed.
fn publish_what_is_behind(engine: &Engine) {
    let mut state = lock(&engine.state);
    for collection in state.collections.values_mut().filter(|collection| collection.is_dirty) {
        if let Err(error) = engine.publish(collection) {
            tracing::warn!("the manifest of collection {} cannot be published yet: {error}", collection.record.id);
        }
    }
}

fn set_gauges(engine: &Engine) {
    let (used, _) = engine.buffer.used();
    let (tables, live) = engine.publisher.shm_bytes();
    engine.gauge(Gauge::BufferBytes, used);
    engine.gauge(Gauge::BufferBytesMax, engine.config.insert_buffer_size);
    engine.gauge(Gauge::ShmTableBytes, tables);
    engine.gauge(Gauge::ShmLiveBytes, live);
    if let Ok(log) = engine.log() {
        engine.gauge(Gauge::LogBytes, log.bytes());
    }
}

fn cut_large_log(engine: &Engine) -> Result<()> {
    if engine.log()?.bytes() > LOG_BYTES_MAX {
        deletes::checkpoint(engine)?;
        engine.cut_log()?;
    }
    Ok(())
}
