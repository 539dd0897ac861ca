//! Jobs of several processes under a real `mpirun`: the short part of `scripts/mpi-test`.

use std::path::Path;
use std::process::Command;

#[test]
fn jobs_of_several_processes() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/mpi-test");
    let done = Command::new(script).args(["--quick", "--slq", env!("CARGO_BIN_EXE_slq")]).output();
    let done = done.expect("python3 runs scripts/mpi-test");
    let [out, err] = [done.stdout, done.stderr].map(|b| String::from_utf8_lossy(&b).into_owned());
    // What was checked, or which tool is missing.
    print!("{out}");
    assert!(done.status.success(), "{err}");
}
