//! Tells the program the commit it was built from: `SLQ_COMMIT` where it is set, what git says in a checkout of this repository,
//! `unknown` otherwise. Runs again only where the commit has changed.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SLQ_COMMIT");
    let given = std::env::var("SLQ_COMMIT").ok().filter(|c| !c.is_empty());
    let commit = given.or_else(of_checkout).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=SLQ_COMMIT={commit}");
}

/// The commit that is checked out. A repository that merely surrounds the sources, such as one around a home folder, does not
/// know this file.
fn of_checkout() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    // The files that a new commit changes; only one that exists may be watched, or cargo runs this at every build.
    let branch = git(&["symbolic-ref", "-q", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|p| Path::new(p).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    Some(commit)
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned())
}
