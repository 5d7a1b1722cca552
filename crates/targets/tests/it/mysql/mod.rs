//! MariaDB. MySQL is not installed where these tests run.

mod common;
mod execute;
mod property;
mod rollback;
mod types;
