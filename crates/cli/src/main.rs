//! The `slq` command line: arguments in, library calls, a table or JSON out.

#![forbid(unsafe_code)]

mod about;
mod batch;
mod bench;
mod cluster;
mod common;
mod compare;
mod compress;
mod convert;
mod data;
mod decompose;
mod demo;
mod eval;
mod inspect;
mod job;
mod names;
mod number;
mod packed;
mod processes;
mod progress;
mod report;
mod resume;
mod run;
mod runs;
mod sensitivity;
mod signals;
mod solver;
mod table;
mod train;
mod training;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use common::Common;

/// Makes trained neural networks small: moves their weights onto a few shared values, round by round,
/// re-training what is still free, so that accuracy stays.
#[derive(Parser)]
#[command(name = "slq", version, long_version = about::long_version(), max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The main job on the built-in sample: a pretrained LeNet in, a 4-bit network out
    Demo(demo::Args),
    /// Train or fine-tune at full precision
    Train(Box<train::Args>),
    /// The main job: share the weights of a trained network, round by round
    Compress(Box<compress::Args>),
    /// Go on with a job that was stopped
    Resume(resume::Args),
    /// Low-rank decomposition: layers into thin ones, so that the network computes less
    Decompose(Box<decompose::Args>),
    /// How much the loss rises when a layer or a cluster is quantized
    Sensitivity(sensitivity::Args),
    /// Accuracy and loss on the test split
    Eval(eval::Args),
    /// Differences between the outputs of two networks
    Compare(compare::Args),
    /// Run the network on given inputs
    Run(run::Args),
    /// Run directories, how far they have come, and how to go on
    Runs(runs::Args),
    /// A page of HTML that shows a job, or several side by side
    Report(report::Args),
    /// Layers, shapes, parameters, bits, bytes
    Inspect(inspect::Args),
    /// Convert between model formats and between dataset formats
    Convert(convert::Args),
    /// One-dimensional clustering alone
    Cluster(cluster::Args),
    /// Speed of forward pass and training step
    Bench(bench::Args),
    /// Completions for a shell
    Completions(about::Completions),
    /// Manual pages and the reference
    #[command(hide = true)]
    Pages(about::Pages),
}

/// The arguments, and the name of the command.
fn parsed() -> Result<(Cli, String), clap::Error> {
    let matches = Cli::command().try_get_matches()?;
    if let Some(("compress", given)) = matches.subcommand() {
        compress::refuse_flags_beside_resume(given)?;
    }
    let command = matches.subcommand_name().unwrap_or_default().into();
    Ok((Cli::from_arg_matches(&matches)?, command))
}

/// Parses the arguments, runs the command, and says in one sentence what failed.
///
/// Status 0: done; 1: the work failed; 2: wrong usage; 130 and 143: stopped by SIGINT or SIGTERM.
fn main() -> ExitCode {
    let (cli, command) = parsed().unwrap_or_else(|error| common::end_of_usage(&error));
    let mut common = cli.common;
    if let Err(message) = common.start_threads().and_then(|()| common.join(&command)) {
        if !processes::first() {
            processes::wait_for_the_first();
        }
        common::say(format_args!("error: {message}"));
        return ExitCode::FAILURE;
    }
    let outcome = match cli.command {
        Command::Demo(args) => demo::run(args, &common),
        Command::Train(args) => train::run(*args, &common),
        Command::Compress(args) => match args.resumed() {
            Some((dir, run)) => resume::resume(dir, run, &common),
            None => compress::run(*args, &common),
        },
        Command::Resume(args) => resume::run(args, &common),
        Command::Decompose(args) => decompose::run(*args, &common),
        Command::Sensitivity(args) => sensitivity::run(args, &common),
        Command::Eval(args) => eval::run(args, &common),
        Command::Compare(args) => compare::run(args, &common),
        Command::Run(args) => run::run(args, &common),
        Command::Runs(args) => runs::run(args, &common),
        Command::Report(args) => report::run(args, &common),
        Command::Inspect(args) => inspect::run(args, &common),
        Command::Convert(args) => convert::run(args, &common),
        Command::Cluster(args) => cluster::run(args, &common),
        Command::Bench(args) => bench::run(args, &common),
        Command::Completions(args) => about::completions(&args, Cli::command()),
        Command::Pages(args) => about::pages(&args, Cli::command(), &common),
    };
    match outcome {
        Ok(()) => {
            common.processes.reducer.end();
            ExitCode::SUCCESS
        }
        Err(error) => {
            common.fail(error.kind(), &error);
            ExitCode::FAILURE
        }
    }
}
