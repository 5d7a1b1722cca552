//! Snapshots and rollback through the API, on a real SQLite file.
