//! `checkrein policy test`

use crate::{
    classify::catalogue,
    failure::{Code, Failure, Result},
    input,
    output::{Out, clean, note, plural},
};
use checkrein_core::policy::{
    PolicySet,
    examples::{ExampleResult, parse_examples, run_examples},
};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "\
The examples are a JSON list:
  [{\"name\": \"bulk update\", \"expect\": \"block\", \"policies\": [\"blast_radius_limit\"],
    \"check\": {\"action\": \"update\", \"resource\": \"users\", \"payload\": {\"record_count\": 26}}}]
Exit codes: 0 all as expected, 1 not.")]
pub(crate) struct Args {
    /// The examples with the verdicts that are expected; `-` reads them from stdin
    #[arg(value_name = "EXAMPLES")]
    examples: PathBuf,
    /// The policies: files in TOML or JSON, or folders of them
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    policies: Vec<PathBuf>,
    /// The configuration with the tool catalogue [default: ./checkrein.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn run(args: Args, out: &mut Out) -> Result {
    let catalogue = catalogue(args.config)?;
    let (_, policies) = super::read(&args.policies)?;
    let wrong = |message: String| Failure::failed(format!("{}: {message}", args.examples.display()));
    let text = if args.examples == Path::new("-") {
        input::stdin()?
    } else {
        checkrein_server::config::read_text(&args.examples)?
    };
    let examples = input::value(&text).map_err(&wrong)?;
    let examples = parse_examples(&examples).map_err(|problems| wrong(problems.join("\n")))?;
    if examples.is_empty() {
        return Err(wrong("there are no examples, so nothing would be tested".to_owned()));
    }
    let set = PolicySet::compile(policies).map_err(|problems| {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Failure::failed(lines.join("\n"))
    })?;
    let results = run_examples(&set, &examples, |check, agent| {
        catalogue.classify(check, agent).map_err(|e| e.to_string())
    });
    let failed = results.iter().filter(|result| !result.passed).count();
    if out.json {
        out.json(&json!({"passed": results.len() - failed, "failed": failed, "results": results}))?;
    } else {
        show(&results, failed, out)?;
    }
    out.flush()?;
    if failed > 0 {
        return Err(Failure::Quiet(Code::Failed));
    }
    if !out.json {
        note("see what the policies would have changed with: checkrein policy replay FILE");
    }
    Ok(())
}

fn show(results: &[ExampleResult], failed: usize, out: &mut Out) -> Result {
    for result in results {
        let word = if result.passed { "ok" } else { "FAILED" };
        let got = result.got.map(|verdict| format!(" ({})", out.verdict(verdict))).unwrap_or_default();
        out.line(&format!("{word:<6}  {}{got}", clean(&result.name)))?;
        for difference in &result.differences {
            out.line(&format!("        {}", clean(difference)))?;
        }
    }
    out.line(&format!("{}, {failed} failed", plural(results.len(), "example", "examples")))?;
    Ok(())
}
