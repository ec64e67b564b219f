//! `tributary test`: runs cases.

use crate::error::{Error, Result};
use crate::testing;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// Case files, or folders with them (`*.case`); `jobs/tests` by default.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Write what was seen into the cases, in place of what they expect.
    #[arg(long)]
    complete: bool,
}

pub fn test(args: &Args) -> Result<u8> {
    let default = [PathBuf::from("jobs/tests")];
    let paths = if args.paths.is_empty() {
        &default[..]
    } else {
        &args.paths
    };
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    if files.is_empty() {
        return Err(Error::job("there is no case (*.case) in the paths given"));
    }
    let mut failed = 0;
    for file in &files {
        let outcome = testing::run_file(file, args.complete);
        match outcome {
            Ok(outcome) => say!("ok    {} ({} ways)", file.display(), outcome.ways),
            Err(error) => {
                failed += 1;
                say!("FAIL  {}\n{error}", file.display());
            }
        }
    }
    say!("\n{} passed, {failed} failed", files.len() - failed);
    Ok(u8::from(failed > 0))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let entries = std::fs::read_dir(path).map_err(|error| {
        Error::job(format!("{}: no such case file or folder", path.display())).caused_by(error)
    })?;
    let mut entries: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            collect(&entry, files)?;
        } else if entry
            .extension()
            .is_some_and(|extension| extension == "case")
        {
            files.push(entry);
        }
    }
    Ok(())
}
