//! What systemd is told (`sd_notify`). Nothing happens where nobody asked: `NOTIFY_SOCKET` is unset then.

use std::time::Duration;

use sd_notify::NotifyState;

/// The server answers requests.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// The server drains.
pub fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// The loop is alive.
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`watchdog`] is due: half of what systemd waits. `None` = not asked for.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// A lost notification is systemd's to notice; the server goes on.
fn send(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
