//! What the program says of itself: version, completions for shells, manual pages, the page of all commands.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::Command;
use clap_complete::Shell;
use slq::{Error, Isa};

use crate::common::{Common, Outcome};

/// Version, commit and instruction set.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("SLQ_COMMIT"));
    format!("{version}\ncommit: {commit}\ninstruction set: {}", Isa::detect())
});

/// The text of `slq --version`; `-V` shows its first line.
pub(crate) fn long_version() -> &'static str {
    &VERSION
}

/// Print the completions for a shell: `slq completions bash > ~/.local/share/bash-completion/completions/slq`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slq completions bash > ~/.local/share/bash-completion/completions/slq
  slq completions zsh > ~/.zfunc/_slq
  slq completions fish > ~/.config/fish/completions/slq.fish")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the completions of `program`.
pub(crate) fn completions(args: &Completions, mut program: Command) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut program, "slq", &mut text);
    write_out(&text)
}

/// Manual pages or the reference of all commands, for packages and the documentation.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct Pages {
    /// Write manual pages, one for each command, into a folder
    #[arg(long, value_name = "FOLDER", group = "what")]
    man: Option<PathBuf>,
    /// Print docs/reference.md
    #[arg(long, group = "what")]
    reference: bool,
}

/// Writes what `args` asks for.
pub(crate) fn pages(args: &Pages, mut program: Command, common: &Common) -> Outcome {
    let Some(folder) = &args.man else {
        program.build();
        return write_out(reference(&program).as_bytes());
    };
    let fail = |e: std::io::Error| Error::File { path: folder.clone(), reason: e.to_string() };
    std::fs::create_dir_all(folder).map_err(fail)?;
    // Before the program is built, which adds `help` with a page for each command.
    let mut program = program.disable_help_subcommand(true);
    program.build();
    clap_mangen::generate_to(program, folder).map_err(fail)?;
    common.note(format_args!("manual pages in {}", folder.display()));
    Ok(())
}

/// Text on stdout; a closed pipe is no failure.
fn write_out(text: &[u8]) -> Outcome {
    use std::io::Write as _;
    match std::io::stdout().write_all(text) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::File { path: "standard output".into(), reason: e.to_string() })
        }
        _ => Ok(()),
    }
}

/// All commands with their whole help, as Markdown.
fn reference(program: &Command) -> String {
    let mut text = String::from(
        "# Reference of all commands\n\nFind what every command and every flag does here. The program prints the same with \
         `--help`; this page is written from it by `slq pages --reference`.\n",
    );
    let shown = || program.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help");
    text += "\n| command | does |\n|---|---|\n";
    for command in shown() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let name = command.get_name();
        // Writing to a string does not fail.
        let _ = writeln!(text, "| [`slq {name}`](#slq-{name}) | {} |", about.replace('|', "\\|"));
    }
    for command in shown() {
        let help = command.clone().term_width(100).max_term_width(100).render_long_help().to_string();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        let _ =
            write!(text, "\n## slq {}\n\n```text\n{}\n```\n", command.get_name(), lines.join("\n").trim());
    }
    text
}
