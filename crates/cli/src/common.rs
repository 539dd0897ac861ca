//! Flags that every subcommand has, and how models are named.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;
use slq::detection::Preprocessing;
use slq::methods::TrainingData;
use slq::{InputShape, Isa, JobFile, Model, Prepared};

use crate::data::DataArgs;
use crate::processes::{self, Processes};

/// The result of a command.
pub(crate) type Outcome = Result<(), slq::Error>;

#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// One JSON object on stdout; progress on stderr
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Threads to compute on [default: one for each core]
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    /// Seed of every random choice [default: 0]
    #[arg(long = "seed", global = true, value_name = "N", hide_short_help = true)]
    pub(crate) given_seed: Option<u64>,
    /// Instruction set [default: the best this machine has]
    #[arg(long, global = true, value_name = "ISA", hide_short_help = true)]
    isa: Option<IsaName>,
    /// All rows of long tables
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) all: bool,
    /// No progress
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
    /// The processes that do the job together.
    #[arg(skip = Processes::alone())]
    pub(crate) processes: Processes,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum IsaName {
    Scalar,
    Avx2,
    Avx512,
}

impl Common {
    /// Starts the thread pool and checks the instruction set.
    pub(crate) fn start_threads(&self) -> Result<(), String> {
        let wanted = self.isa();
        if wanted > Isa::detect() {
            return Err(format!(
                "--isa {wanted}: this machine has no such instructions, its best is {}",
                Isa::detect()
            ));
        }
        if let Some(threads @ (0 | 1025..)) = self.threads {
            return Err(format!("--threads {threads}: give a number from 1 to 1024"));
        }
        rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads.or_else(|| self.fewer_threads()).unwrap_or(0))
            .build_global()
            .map_err(|e| format!("--threads: {e}"))
    }

    /// Fewer threads than there are cores, where the address space has no room for more.
    fn fewer_threads(&self) -> Option<usize> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let room = slq::engine::thread_room().filter(|&room| room < cores)?;
        if std::env::var_os("RAYON_NUM_THREADS").is_some() {
            return None;
        }
        self.note(format_args!(
            "note: {room} of {cores} cores are used: the limit on the address space (ulimit -v) has no room for more threads; \
             --threads sets their number"
        ));
        Some(room)
    }

    /// Takes part in the group of processes that `mpirun` started, if it did; the first one speaks for all.
    pub(crate) fn join(&mut self, command: &str) -> Result<(), String> {
        self.processes = processes::start(command, self.isa())?;
        self.quiet |= self.processes.reducer.rank() > 0;
        Ok(())
    }

    /// Whether this is the process that speaks and writes.
    pub(crate) fn first(&self) -> bool {
        self.processes.reducer.rank() == 0
    }

    /// Checks that the outputs can be written, by the process that will.
    ///
    /// # Errors
    /// Those of [`slq::files::check_output`].
    pub(crate) fn check_outputs(&self, outputs: &[PathBuf]) -> Outcome {
        outputs.iter().filter(|_| self.first()).try_for_each(|o| slq::files::check_output(o))
    }

    /// The seed, 0 unless one was given.
    pub(crate) fn seed(&self) -> u64 {
        self.given_seed.unwrap_or(0)
    }

    pub(crate) fn isa(&self) -> Isa {
        if let Some(isa) = self.processes.isa {
            return isa;
        }
        match self.isa {
            None => Isa::detect(),
            Some(IsaName::Scalar) => Isa::Scalar,
            Some(IsaName::Avx2) => Isa::Avx2,
            Some(IsaName::Avx512) => Isa::Avx512,
        }
    }

    /// Whether progress bars make sense: a person looks at stderr.
    pub(crate) fn bars(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }

    /// Prints the result: JSON where asked for, the text otherwise.
    pub(crate) fn print(&self, json: &serde_json::Value, text: impl std::fmt::Display) {
        if !self.first() {
            return;
        }
        let mut out = std::io::stdout().lock();
        let written = match self.json {
            true => writeln!(out, "{json}"),
            false => writeln!(out, "{}", clean(&text.to_string())),
        };
        match written.and_then(|()| out.flush()) {
            // A closed pipe (`slq inspect … | head`) is not a failure.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                say(format_args!("error: standard output cannot be written: {error}"));
                std::process::exit(1);
            }
            _ => {}
        }
    }

    /// Says how preprocessing was found, and why it may be wrong.
    fn said(&self, preprocessing: &Preprocessing) {
        preprocessing.note().iter().for_each(|note| self.note(format_args!("note: {note}")));
        preprocessing.doubt.iter().for_each(|doubt| self.note(format_args!("warning: {doubt}")));
    }

    /// The images, once it is said how their preprocessing was found.
    pub(crate) fn prepared(&self, prepared: Prepared) -> TrainingData {
        self.said(&prepared.preprocessing);
        prepared.data
    }

    /// Says what failed: a sentence on stderr; with `--json` one object on stdout, too.
    pub(crate) fn fail(&self, kind: &str, message: &dyn std::fmt::Display) {
        let mut message = sentence(&message.to_string());
        let rank = self.processes.reducer.rank();
        if rank > 0 {
            processes::wait_for_the_first();
            message = format!("process {rank}: {message}");
        }
        say(format_args!("error: {message}"));
        if self.json {
            print_error(kind, &message);
        }
    }

    /// Writes a line to stderr, unless told to be quiet.
    pub(crate) fn note(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            say(text);
        }
    }
}

/// Ends the program after arguments that are wrong, or after `--help`. With `--json` among them the error is one object on
/// stdout, too.
pub(crate) fn end_of_usage(error: &clap::Error) -> ! {
    let asked = std::env::args_os().take_while(|a| a != "--").any(|a| a == "--json");
    if asked && error.use_stderr() {
        print_error("usage", &usage_sentence(&error.to_string()));
    }
    error.exit()
}

/// Prints an error as an object; it is on stderr as well, should nobody read this.
fn print_error(kind: &str, message: &str) {
    let error = json!({ "error": { "kind": kind, "message": message } });
    let _ = writeln!(std::io::stdout(), "{error}");
}

/// What is wrong, without the usage and the advice below it.
fn usage_sentence(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let first = text.split("\n\n").next().unwrap_or_default();
    sentence(&first.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Writes a line to stderr; errors of writing are ignored, so that the work goes on.
pub(crate) fn say(text: impl std::fmt::Display) {
    let text = clean(&text.to_string());
    let _ = match ["error:", "warning"].iter().find_map(|w| Some((*w, text.strip_prefix(w)?))) {
        Some((word, rest)) if coloured() => writeln!(std::io::stderr(), "\u{1b}[1;31m{word}\u{1b}[0m{rest}"),
        _ => writeln!(std::io::stderr(), "{text}"),
    };
}

/// Whether stderr shows colours: a terminal that can, and no `NO_COLOR` (no-color.org).
fn coloured() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    std::io::stderr().is_terminal()
        && !set("NO_COLOR")
        && std::env::var_os("TERM").is_some_and(|t| t != "dumb")
}

/// Characters of an error message that are shown: names in files may be of any length.
const LONGEST: usize = 2000;

/// The text with everything escaped that a terminal would obey or that would turn its direction: names come from files.
fn clean(text: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => clean.push(c),
            c if c.is_control() || turns(c) => clean.extend(c.escape_default()),
            c => clean.push(c),
        }
    }
    clean
}

/// The text as one line of bounded length.
fn sentence(text: &str) -> String {
    let one_line = clean(text).replace('\n', "\\n");
    match one_line.char_indices().nth(LONGEST) {
        None => one_line,
        Some((end, _)) => {
            let more = one_line[end..].chars().count();
            format!("{} ... ({more} characters more)", &one_line[..end])
        }
    }
}

/// How a model is named.
#[derive(Args, Clone, Debug)]
pub(crate) struct ModelArgs {
    /// x.onnx, x.slq, x.prototxt (with --weights), x.safetensors (with --graph), x.pth, or zoo:NAME
    pub(crate) model: String,
    /// Weights of a Caffe network
    #[arg(long, value_name = "CAFFEMODEL")]
    pub(crate) weights: Option<PathBuf>,
    /// Network of a safetensors file
    #[arg(long, value_name = "ONNX")]
    pub(crate) graph: Option<PathBuf>,
    /// Sizes of an input that the file leaves open, such as images=1x3x320x320 (repeatable)
    #[arg(long, value_name = "NAME=SIZES")]
    pub(crate) input_shape: Vec<InputShape>,
}

impl ModelArgs {
    pub(crate) fn open(&self, seed: u64) -> Result<Model, slq::Error> {
        self.job(&DataArgs::default(), seed).open_model()
    }

    /// The model and the data as a job names them.
    pub(crate) fn job(&self, data: &DataArgs, seed: u64) -> JobFile {
        JobFile {
            model: Some(self.model.clone()),
            weights: self.weights.clone(),
            graph: self.graph.clone(),
            input_shapes: self.input_shape.clone(),
            data: data.options(),
            seed,
            ..JobFile::default()
        }
    }
}

/// The path as a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@,".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// The smallest of `base`, `base-2`, `base-3` … that does not exist.
pub(crate) fn free_path(base: PathBuf) -> PathBuf {
    let name = base.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    std::iter::once(base.clone())
        .chain((2..).map(|n| base.with_file_name(format!("{name}-{n}"))))
        .find(|p| !p.exists())
        .unwrap_or(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_a_quoted_path_as_it_is() {
        assert_eq!(quoted(Path::new("slq-runs/net-2")), "slq-runs/net-2");
        assert_eq!(quoted(Path::new("my runs/it's")), "'my runs/it'\\''s'");
    }

    #[test]
    fn names_from_files_cannot_command_a_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\r\u{9b}1mc\u{202e}d\ne"), "a\\u{1b}[2Jb\\r\\u{9b}1mc\\u{202e}d\ne");
        assert_eq!(clean("größe 漢字 \u{1f600}"), "größe 漢字 \u{1f600}");
    }

    #[test]
    fn an_error_is_one_line_of_bounded_length() {
        assert_eq!(sentence("two\nlines"), "two\\nlines");
        let long = sentence(&"é".repeat(1 << 20));
        assert!(
            long.chars().count() < LONGEST + 50 && long.ends_with("(1046576 characters more)"),
            "{}",
            long.len()
        );
    }
}
