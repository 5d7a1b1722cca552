//! MariaDB. MySQL is not installed where these tests run.


mod common;
mod concurrent;
mod crash;
mod execute;
mod property;
mod rollback;
mod types;
