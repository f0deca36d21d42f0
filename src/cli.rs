//! The command line: what each verb takes, and one file a verb that runs it.

mod abandon;
mod apply;
mod check;
mod completions;
mod demo;
mod doctor;
mod halt;
mod heights;
mod history;
pub mod init;
mod man;
mod operation;
pub mod plan;
mod read;
mod rollback;
mod snapshot;
mod stage;
mod state;
mod status;
mod unstage;
mod validator;
mod verify;
mod watch;
mod way_back;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::exit::{self, Exit, Failure, Outcome};
use crate::host::files::Tree;
use crate::host::{Host, live, model};
use crate::peers::Peer;
use crate::ui::Ui;
use crate::ui::failure::{self, Prints};

/// Move a validator's remote signers to a new chain id: plan it, stage it days ahead, apply it at the halt, take it back
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = exit_codes())]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

fn exit_codes() -> String {
    exit::CODES
        .iter()
        .fold("Exit codes:".to_owned(), |text, (code, meaning)| {
            format!("{text}\n  {code:<3} {meaning}")
        })
}

#[derive(Debug, Args)]
struct Global {
    /// Another host with such signers: NAME=COMMAND, where the command prints what kmsctl status --json says there; repeatable
    #[arg(long = "peer", global = true, value_name = "NAME=COMMAND")]
    peers: Vec<Peer>,
    /// Work on a folder as if it were a host: its units, configs and state files, services modelled
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Leave /etc/kmsctl/kmsctl.toml alone
    #[arg(long, global = true)]
    no_settings: bool,
    /// Print JSON on standard output, errors included; not for demo, completions and man
    #[arg(long, global = true)]
    json: bool,
    /// Answer every question with yes
    #[arg(long, short, global = true)]
    yes: bool,
    /// Never ask; fail where an answer is needed
    #[arg(long, global = true)]
    no_input: bool,
    /// Colour the output
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    color: Color,
    /// Print results only
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Say every step
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show what would change, judge it, and save it as the current plan
    Plan(plan::PlanArgs),
    /// Write the plan's files and let systemd read them; no running service is disturbed
    Stage(stage::StageArgs),
    /// Take the staged files away again
    Unstage,
    /// Switch the signers to the new chain, staging first where needed; resume what a crash left
    Apply(apply::ApplyArgs),
    /// Go back to the old chain
    Rollback(rollback::RollbackArgs),
    /// Give up an interrupted operation where it stands; nothing is done or undone
    Abandon(abandon::AbandonArgs),
    /// Show what was done, when and by whom
    History(history::HistoryArgs),
    /// Show services, chains, heights and what to do next
    Status,
    /// Show how far each signer signed
    Heights,
    /// Judge whether this host's Oasis key managers hold their secrets, and keep the proof
    Verify(verify::VerifyArgs),
    /// Judge tmkms configs by what their tmkms does with them, offline
    Check(check::CheckArgs),
    /// Look for everything about this host that could spoil the night
    Doctor(doctor::DoctorArgs),
    /// Set up a new signer: keys, state file, tmkms.toml and unit; nothing is started
    Init(Box<init::InitArgs>),
    /// Let a validator wait for its signer, in its config.toml and on its own host
    Validator(validator::ValidatorArgs),
    /// Show a state file, tmkms' or CometBFT's, or write it as the other's
    State(state::StateArgs),
    /// Write this host, without its secrets, as a folder for --root: to rehearse the night elsewhere
    Snapshot(snapshot::SnapshotArgs),
    /// Show the whole way on a fixture fleet in a temporary folder
    Demo,
    /// Print a shell's completions
    Completions(completions::CompletionsArgs),
    /// Print the manual page, or write all pages to a folder
    Man(man::ManArgs),
}

impl Verb {
    fn prints(&self) -> Prints {
        match self {
            Verb::Stage(_) | Verb::Unstage => Prints::Events,
            Verb::Apply(args) if args.dry_run => Prints::Document,
            Verb::Rollback(args) if args.dry_run => Prints::Document,
            Verb::Apply(_) | Verb::Rollback(_) => Prints::Events,
            Verb::Plan(_) | Verb::Abandon(_) | Verb::History(_) | Verb::Status | Verb::Heights => {
                Prints::Document
            }
            Verb::Snapshot(_) | Verb::Check(_) | Verb::Doctor(_) | Verb::Verify(_) => {
                Prints::Document
            }
            Verb::Init(_) | Verb::State(_) | Verb::Validator(_) => Prints::Document,
            Verb::Demo | Verb::Completions(_) | Verb::Man(_) => Prints::Text,
        }
    }
}

impl Global {
    fn ui(&self) -> Ui {
        Ui {
            json: self.json,
            quiet: self.quiet,
            verbose: self.verbose,
            yes: self.yes,
            no_input: self.no_input,
        }
    }

    fn host(&self) -> anyhow::Result<Host> {
        match &self.root {
            Some(root) => model::open(root),
            None => live::open(),
        }
    }

    /// The host's files alone, for verbs that ask nothing of systemd.
    fn files(&self) -> anyhow::Result<Tree> {
        let root = self.root.as_deref().unwrap_or(Path::new("/"));
        Tree::open(root).with_context(|| format!("opening {}", root.display()))
    }
}

/// Reads a command line and runs its verb; says what failed on standard error.
pub fn run(words: &[OsString]) -> Exit {
    match read::command_line(words) {
        Ok(cli) => run_verb(&cli),
        Err(unread) => unread.say(),
    }
}

fn run_verb(cli: &Cli) -> Exit {
    match cli.global.color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
    let ui = cli.global.ui();
    match dispatch(cli) {
        Ok(exit) => exit,
        Err(failure) => {
            let denied = failure.error.chain().any(|cause| {
                cause
                    .downcast_ref::<std::io::Error>()
                    .is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
            });
            let next = if denied && !rustix::process::geteuid().is_root() {
                "\nrun kmsctl as root, with sudo for instance"
            } else {
                ""
            };
            let sentence = format!("{:#}{next}", failure.error);
            failure::show(ui, cli.verb.prints(), &failure, &sentence);
            failure.exit
        }
    }
}

fn dispatch(cli: &Cli) -> Outcome {
    on(|| cli.global.host(), || cli.global.files(), cli)
}

/// Runs a command line's verb on a host that is open already, as the crash tests do: what `--root` names isn't opened,
/// the settings aren't read, and what failed is returned instead of said.
pub fn run_on(host: Host, words: &[&str]) -> Outcome {
    let cli = Cli::try_parse_from(words).map_err(Failure::usage)?;
    let none = || anyhow::bail!("a host that is given has no files of its own to begin with");
    on(|| Ok(host), none, &cli)
}

fn on(
    host: impl FnOnce() -> anyhow::Result<Host>,
    files: impl FnOnce() -> anyhow::Result<Tree>,
    cli: &Cli,
) -> Outcome {
    let Cli { global, verb } = cli;
    let (ui, peers, root) = (global.ui(), &global.peers, global.root.as_deref());
    match verb {
        Verb::Plan(args) => plan::run(&mut host()?, ui, peers, args),
        Verb::Stage(args) => stage::run(&mut to_change(host, root)?, ui, args),
        Verb::Unstage => unstage::run(&mut to_change(host, root)?, ui),
        Verb::Apply(args) => apply::run(&mut to_change(host, root)?, ui, peers, args),
        Verb::Rollback(args) => rollback::run(&mut to_change(host, root)?, ui, peers, args),
        Verb::Abandon(args) => abandon::run(&mut host()?, ui, args),
        Verb::History(args) => history::run(&mut host()?, ui, args),
        Verb::Status => status::run(&mut host()?, ui),
        Verb::Heights => heights::run(&mut host()?, ui),
        Verb::Verify(args) => verify::run(&mut host()?, ui, peers, args),
        Verb::Check(args) => check::run(host, root, ui, args),
        Verb::Doctor(args) => doctor::run(&mut host()?, ui, peers, args),
        Verb::Init(args) => init::run(&mut host()?, &files()?, ui, args),
        Verb::Validator(args) => validator::run(&files()?, ui, args),
        Verb::State(args) => state::run(host, &files()?, ui, args),
        Verb::Snapshot(args) => snapshot::run(&mut host()?, ui, args),
        Verb::Demo => demo::run(ui),
        Verb::Completions(args) => completions::run(ui, args),
        Verb::Man(args) => man::run(ui, args),
    }
}

/// The host for a verb that may have something open on it.
fn to_change(
    host: impl FnOnce() -> anyhow::Result<Host>,
    root: Option<&Path>,
) -> Result<Host, Failure> {
    host().map_err(|e| operation::not_asked(root, e))
}
