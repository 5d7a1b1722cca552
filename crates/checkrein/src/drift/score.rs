//! `checkrein drift score`

use crate::{
    failure::{Failure, Result},
    output::Out,
};
use checkrein_core::drift::series::{Moment, Series};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    path::PathBuf,
};

/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 64 * 1024;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A file of `timestamp,value` lines under a heading; `-` for stdin
    #[arg(long, value_name = "FILE")]
    csv: PathBuf,
}

pub(crate) fn run(args: &Args, out: &mut Out) -> Result {
    let cannot = |e: io::Error| Failure::failed(format!("cannot read {}: {e}", args.csv.display()));
    let mut input: Box<dyn BufRead> = if args.csv.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(&args.csv).map_err(cannot)?))
    };
    let (mut bytes, mut number, mut series, mut columns) = (Vec::new(), 0_u64, Series::new(), 0);
    loop {
        bytes.clear();
        number += 1;
        let read = (&mut input).take(MAX_LINE + 1).read_until(b'\n', &mut bytes).map_err(cannot)?;
        if read == 0 {
            return if number > 1 { Ok(()) } else { Err(Failure::failed("the file is empty")) };
        }
        let refused =
            |why: String| Failure::failed(format!("{}:{number}: the line {why}", args.csv.display()));
        if bytes.len() as u64 > MAX_LINE {
            return Err(refused(format!("is longer than {MAX_LINE} bytes")));
        }
        let line = std::str::from_utf8(&bytes).map_err(|_| refused("is not UTF-8 text".to_owned()))?;
        let line = line.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(refused("holds a control character".to_owned()));
        }
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let [time, value, ..] = cells.as_slice() else {
            return Err(refused("is not `timestamp,value`".to_owned()));
        };
        if number == 1 {
            columns = cells.len();
            if Moment::parse(time).is_err() {
                out.line(&format!("{line},anomaly_score"))?;
                continue;
            }
            // Without a heading; the output has none either.
        }
        if cells.len() != columns {
            return Err(refused(format!("has {} columns, the first one {columns}", cells.len())));
        }
        Moment::parse(time).map_err(refused)?;
        let value = parse(value).map_err(refused)?;
        let score = series.score(value);
        out.line(&format!("{line},{score:.6}"))?;
    }
}

/// A number; `None` for one that is missing.
fn parse(text: &str) -> std::result::Result<Option<f64>, String> {
    if text.is_empty() || ["nan", "na", "null", "none", "-"].contains(&text.to_ascii_lowercase().as_str()) {
        return Ok(None);
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Some(value)),
        _ => {
            let text: String = text.chars().take(40).collect();
            Err(format!("has the value `{text}`, which is not a finite number"))
        }
    }
}
