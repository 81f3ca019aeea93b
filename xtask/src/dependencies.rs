//! How much comes along with each crate.

use std::collections::BTreeSet;
use std::fs;

use crate::{Outcome, cargo, root};

/// Prints a table: every crate of the workspace with the number of distinct crates it depends on, itself excluded, with default features on
/// this platform. Build scripts' and tests' own dependencies do not count.
pub fn print() -> Outcome {
    let path = root().join("Cargo.toml");
    let manifest = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let members = members(&manifest);
    println!("| crate | dependencies | of these from outside the workspace |");
    println!("|---|---|---|");
    for member in &members {
        let tree = cargo()
            .args(["tree", "--package", member, "--edges", "normal", "--prefix", "none", "--format", "{p}"])
            .output()
            .map_err(|e| format!("cargo does not start: {e}"))?;
        if !tree.status.success() {
            return Err(format!("cargo tree of {member}: {}", String::from_utf8_lossy(&tree.stderr).trim()));
        }
        let all = distinct(&String::from_utf8_lossy(&tree.stdout), member);
        let outside = all.iter().filter(|c| !members.iter().any(|m| c.split(' ').next() == Some(m))).count();
        println!("| `{member}` | {} | {outside} |", all.len());
    }
    Ok(())
}

/// The directories of the members, which bear the names of their crates.
fn members(manifest: &str) -> Vec<String> {
    let list = manifest.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Name and version of each crate of a tree but `own`.
fn distinct(tree: &str, own: &str) -> BTreeSet<String> {
    let crates = tree.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.next()?))
    });
    crates.filter(|(name, _)| *name != own).map(|(name, version)| format!("{name} {version}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_crate_once() {
        let tree = "a v0.1.0 (/x)\nrand v0.10.0\nlibm v0.2.1\nlibm v0.2.1 (*)\nrand v0.9.0\n";
        assert_eq!(distinct(tree, "a").len(), 3);
    }

    #[test]
    fn reads_the_members() {
        assert_eq!(members("[workspace]\nmembers = [\n \"a\",\n \"b\",\n]\nx = [\"c\"]\n"), ["a", "b"]);
    }
}
