//! `checkrein openapi`

use crate::{failure::Result, output::Out};

pub(crate) fn run(out: &mut Out) -> Result {
    out.line(checkrein_server::openapi().trim_end())?;
    Ok(())
}
