//! What the disk alone can do: appends, each made durable before the next.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Error;

/// The size of a log record, more or less.
const RECORD: [u8; 700] = [b'r'; 700];
const FILE_BYTES: usize = 4 * 1024 * 1024;

/// The median time, in nanoseconds, of writing one record to a file whose blocks are already there and
/// waiting for `fdatasync`.
///
/// # Errors
/// Those of the disk.
pub fn median(folder: &Path, duration: Duration) -> Result<f64, Error> {
    let mut file = File::create(folder.join("sync"))?;
    file.write_all(&vec![0; FILE_BYTES])?;
    file.sync_all()?;
    let until = Instant::now() + duration;
    let mut times = Vec::new();
    for offset in (0..FILE_BYTES - RECORD.len()).step_by(RECORD.len()).cycle() {
        let began = Instant::now();
        file.write_all_at(&RECORD, u64::try_from(offset)?)?;
        file.sync_data()?;
        times.push(began.elapsed().as_secs_f64() * 1e9);
        if Instant::now() >= until {
            break;
        }
    }
    Ok(super::report::median(times))
}
