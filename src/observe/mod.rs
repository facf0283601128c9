//! Logs. Start at `init`. Uses `config`.
