//! What is in `deploy/` is good: read by the programs that will use it.

use checkrein_testbed::servers::{find, unpacked};
use std::path::PathBuf;
use std::process::Command;

#[test]
fn promtool_takes_the_alert_rules_and_their_tests() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/prometheus"));
    let program = find("promtool", [unpacked("usr/bin")]).expect("promtool: run `scripts/setup test`");
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]] {
        let output = Command::new(&program).args(arguments).current_dir(&folder).output().expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    }
}
