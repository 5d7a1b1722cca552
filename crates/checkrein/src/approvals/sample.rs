//! `checkrein approvals sample`

use crate::{
    failure::Result,
    output::{Out, clean, note, records, time},
    remote::Remote,
};
use checkrein_api::SampledResource;
use serde_json::{Map, Value};

pub(super) fn run(id: &str, remote: &Remote, out: &mut Out) -> Result {
    let sample = remote.ask(|client| async move { client.sample(id).await })?;
    if out.json {
        return Ok(out.json(&sample)?);
    }
    for SampledResource { resource, columns, rows } in &sample.resources {
        out.line(&clean(resource))?;
        for row in rows {
            let record: Map<String, Value> = columns.iter().cloned().zip(row.iter().cloned()).collect();
            out.json_line(&record)?;
        }
    }
    out.flush()?;
    if sample.resources.is_empty() {
        note("no record is there that it would touch");
        return Ok(());
    }
    let shown: u64 = sample.resources.iter().map(|resource| resource.rows.len() as u64).sum();
    note(&format!(
        "{} as of {}, at most 10 of each resource; all that it touches: checkrein approvals show {}",
        records(shown),
        time(sample.read_at),
        clean(&sample.approval_id)
    ));
    Ok(())
}
