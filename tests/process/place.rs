//! Folders for one job, and the job as a process in them.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a fact may take to come true: far longer than it does, so that nothing hangs for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// A folder with a job's input, lake and checkpoints; it goes away with the test.
pub struct Place {
    folder: tempfile::TempDir,
    input: PathBuf,
}

/// A process that is killed at the latest when its test ends.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Place {
    pub fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("input");
        fs::create_dir(&input).unwrap();
        Place { folder, input }
    }

    /// Another place with the same lake and checkpoints, which reads the same input.
    pub fn copy(&self) -> Place {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(self.folder.path(), folder.path());
        Place {
            folder,
            input: self.input.clone(),
        }
    }

    pub fn input(&self, name: &str) -> PathBuf {
        self.input.join(name)
    }

    /// An input file that is never seen half written.
    pub fn write(&self, name: &str, text: &str) {
        let hidden = self.input(&format!("_{name}"));
        fs::write(&hidden, text).unwrap();
        fs::rename(hidden, self.input(name)).unwrap();
    }

    fn command(&self, arguments: &[&str], job: &str) -> Command {
        let file = self.folder.path().join("job.sql");
        let settings = "SET 'execution.checkpointing.dir' = '${CHECKPOINTS}';\nSET 'execution.checkpointing.interval' = '1 ms';\n";
        fs::write(&file, format!("{settings}{job}")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
        command
            .args([arguments[0], file.to_str().unwrap()])
            .args(&arguments[1..])
            .env_clear()
            .env("LAKE", self.folder.path().join("lake"))
            .env("CHECKPOINTS", self.folder.path().join("checkpoints"))
            .env("INPUT", &self.input)
            .stdin(Stdio::null());
        command
    }

    /// `tributary run` to its end.
    pub fn run(&self, job: &str, arguments: &[&str]) -> Output {
        self.run_until(job, arguments, "")
    }

    /// The same, but it is killed when it comes to a step of the protocol for the nth time (`after-commit:2`).
    pub fn run_until(&self, job: &str, arguments: &[&str], kill_at: &str) -> Output {
        let arguments = [&["run", "--http", "off", "--bounded"], arguments].concat();
        let mut command = self.command(&arguments, job);
        command.env("TRIBUTARY_KILL_AT", kill_at).output().unwrap()
    }

    /// `run` that must end well.
    pub fn finish(&self, job: &str, arguments: &[&str]) {
        let output = self.run(job, arguments);
        assert!(output.status.success(), "{}", said(&output));
    }

    /// `tributary run` without an end, which goes on beside the test; what it says is in the file `log`.
    pub fn start(&self, job: &str, arguments: &[&str]) -> Running {
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        let mut command = self.command(&[&["run"], arguments].concat(), job);
        Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The books as `tributary audit` tells them; they balance.
    pub fn audit(&self, job: &str) -> Value {
        let output = self.command(&["audit", "--json"], job).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The last epoch, if there is one.
    pub fn epoch(&self) -> Option<Value> {
        let files = files_below(&self.folder.path().join("checkpoints/epochs"));
        let last = files
            .iter()
            .filter(|file| file.extension().is_some_and(|e| e == "json"))
            .max()?;
        serde_json::from_slice(&fs::read(last).unwrap()).ok()
    }

    /// Makes the last epoch one of before checkpoints kept what nodes do.
    pub fn forget_what_nodes_do(&self) {
        let mut epoch = self.epoch().unwrap();
        epoch.as_object_mut().unwrap().remove("nodes").unwrap();
        let last = files_below(&self.folder.path().join("checkpoints/epochs"))
            .into_iter()
            .max();
        fs::write(last.unwrap(), epoch.to_string()).unwrap();
    }

    /// Waits until the last epoch says something.
    pub fn until_epoch(&self, what: &str, says: impl Fn(&Value) -> bool) {
        until(what, || self.epoch().filter(&says), || self.log());
    }

    /// The rows of a table of JSON lines, sorted, each with its partition's columns before it.
    pub fn rows(&self, table: &str) -> Vec<String> {
        let folder = self.folder.path().join("lake").join(table);
        let mut rows = Vec::new();
        for file in files_below(&folder) {
            let below = file
                .parent()
                .unwrap()
                .strip_prefix(&folder)
                .unwrap()
                .display()
                .to_string();
            let before = if below.is_empty() { below } else { below + " " };
            let text = fs::read_to_string(&file).unwrap();
            rows.extend(text.lines().map(|line| format!("{before}{line}")));
        }
        rows.sort();
        rows
    }

    /// What `tributary query` finds, a JSON object a line.
    pub fn query(&self, sql: &str) -> Vec<Value> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
        let lake = self.folder.path().join("lake");
        let output = command
            .args(["query", sql, "--format", "json", "--lake"])
            .arg(lake)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let lines = String::from_utf8(output.stdout).unwrap();
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// Waits for a fact, and returns it.
pub fn until<T>(what: &str, fact: impl Fn() -> Option<T>, log: impl Fn() -> String) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "waited in vain for {what}:\n{}",
            log()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn said(output: &Output) -> String {
    format!(
        "{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    )
}

/// It ended with exit code 2, and said all of this in its one message.
pub fn expect_refusal(output: &Output, says: &[&str]) {
    let text = said(output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for part in says {
        assert!(text.contains(part), "it does not say {part}:\n{text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&copy).unwrap();
            copy_folder(&path, &copy);
        } else {
            fs::copy(&path, &copy).unwrap();
        }
    }
}
