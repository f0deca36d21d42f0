//! The pages' shape: which sections they have, and how the command line and the words of [`super::text`] become roff.

use anyhow::{Context, Result};
use clap::builder::PossibleValue;
use clap::{Arg, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::text;
use crate::exit;

/// One page, ready to be written.
pub struct Page {
    pub file_name: String,
    pub text: String,
}

/// kmsctl(1), then the verbs' pages. The command is a built one.
pub fn all(command: &Command) -> Result<Vec<Page>> {
    let mut pages = vec![main(command)?];
    for verb in command.get_subcommands() {
        pages.push(of_verb(command, verb)?);
    }
    Ok(pages)
}

/// kmsctl(1).
pub fn main(command: &Command) -> Result<Page> {
    let man = man(command
        .clone()
        .subcommand_help_heading("VERBS")
        .subcommand_value_name("VERB"));
    let mut out = beginning(&man)?;
    paragraphs("DESCRIPTION", text::DESCRIPTION).to_writer(&mut out)?;
    man.render_subcommands_section(&mut out)?;
    man.render_options_section(&mut out)?;
    exit_status().to_writer(&mut out)?;
    listed("FILES", text::FILES).to_writer(&mut out)?;
    listed("ENVIRONMENT", text::ENVIRONMENT).to_writer(&mut out)?;
    let mut examples = paragraphs("EXAMPLES", text::EXAMPLES_OF);
    transcript(&mut examples, text::EXAMPLES);
    examples.to_writer(&mut out)?;
    let verbs = command.get_subcommands().map(page_name);
    let others = text::SEE_ALSO.iter().map(|&other| other.to_owned());
    see_also(verbs.chain(others)).to_writer(&mut out)?;
    page(&man, out)
}

/// A verb's page.
fn of_verb(command: &Command, verb: &Command) -> Result<Page> {
    let globals: Vec<String> = command
        .get_arguments()
        .filter(|argument| argument.is_global_set())
        .filter_map(|argument| Some(format!("`--{}`", argument.get_long()?)))
        .collect();
    // The options of every verb are told once, in kmsctl(1).
    let man = man(verb
        .clone()
        .mut_args(|argument| match argument.is_global_set() {
            true => argument.hide(true),
            false => argument,
        }));
    let mut out = beginning(&man)?;
    match text::of_verb(verb.get_name()) {
        Some(words) => paragraphs("DESCRIPTION", words).to_writer(&mut out)?,
        None => man.render_description_section(&mut out)?,
    }
    man.render_options_section(&mut out)?;
    let mut shared = Roff::new();
    shared.control("PP", []);
    shared.text(inlines(&format!(
        "Also the options of every verb, which kmsctl(1) explains: {}.",
        globals.join(", ")
    )));
    shared.to_writer(&mut out)?;
    paragraphs("EXIT STATUS", &[text::EXIT_STATUS_OF_VERB]).to_writer(&mut out)?;
    see_also(["kmsctl(1)".to_owned()].into_iter()).to_writer(&mut out)?;
    page(&man, out)
}

/// Title, name and synopsis.
fn beginning(man: &Man) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    // A command that is broken at a hyphen reads like another one.
    Roff::new().control("nh", []).to_writer(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    Ok(out)
}

fn man(mut command: Command) -> Man {
    // As `--help` has it: short, where the one made of all flags fills the screen.
    let usage = command.render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_owned();
    // The same program prints the same page on every day. Its date is given as empty: left out, the source would be
    // taken for it.
    Man::new(command.override_usage(usage).mut_args(values_in_words))
        .date("\"\"")
        .source(concat!("kmsctl ", env!("CARGO_PKG_VERSION")))
        .manual("Operating remote signers")
}

/// The values that an argument takes, as a part of its sentence instead of a list over half a screen.
fn values_in_words(argument: Arg) -> Arg {
    let values = argument.get_possible_values();
    let names: Vec<&str> = values.iter().map(PossibleValue::get_name).collect();
    match argument.get_help() {
        Some(help) if !names.is_empty() => {
            let help = format!("{help}; one of {}", names.join(", "));
            argument.help(help).hide_possible_values(true)
        }
        _ => argument,
    }
}

fn page(man: &Man, out: Vec<u8>) -> Result<Page> {
    Ok(Page {
        file_name: man.get_filename(),
        text: String::from_utf8(out).context("the manual page isn't UTF-8")?,
    })
}

fn page_name(command: &Command) -> String {
    format!(
        "{}(1)",
        command
            .get_display_name()
            .unwrap_or_else(|| command.get_name())
    )
}

fn section(heading: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    roff
}

fn paragraphs(heading: &str, paragraphs: &[&str]) -> Roff {
    let mut roff = section(heading);
    for (number, paragraph) in paragraphs.iter().enumerate() {
        // The heading begins a paragraph itself.
        if number > 0 {
            roff.control("PP", []);
        }
        roff.text(inlines(paragraph));
    }
    roff
}

fn exit_status() -> Roff {
    let mut roff = section("EXIT STATUS");
    for (code, meaning) in exit::CODES {
        roff.control("TP", ["5"]);
        roff.text([bold(code.to_string())]);
        roff.text(inlines(meaning));
    }
    roff
}

fn listed(heading: &str, rows: &[(&str, &str)]) -> Roff {
    let mut roff = section(heading);
    for (name, meaning) in rows {
        roff.control("TP", []);
        roff.text([italic(*name)]);
        roff.text(inlines(meaning));
    }
    roff
}

/// Commands as they are typed, each after a sentence of why.
fn transcript(roff: &mut Roff, steps: &[(&str, &[&str])]) {
    for (why, commands) in steps {
        roff.control("PP", []);
        roff.text(inlines(why));
        roff.control("PP", []);
        roff.control("RS", ["4"]);
        roff.control("nf", []);
        for command in *commands {
            roff.text([bold(*command)]);
        }
        roff.control("fi", []);
        roff.control("RE", []);
    }
}

fn see_also(pages: impl Iterator<Item = String>) -> Roff {
    let mut roff = section("SEE ALSO");
    let pages: Vec<String> = pages.collect();
    roff.text([roman(pages.join(", "))]);
    roff
}

/// A sentence as roff: what stands between backticks is bold.
fn inlines(sentence: &str) -> Vec<Inline> {
    sentence
        .split('`')
        .enumerate()
        .filter(|(_, words)| !words.is_empty())
        .map(|(number, words)| match number % 2 {
            1 => bold(words),
            _ => roman(words),
        })
        .collect()
}
