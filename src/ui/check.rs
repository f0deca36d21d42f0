//! What `check` prints: findings with their source line, for people, for programs, and for a pull request.

use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use schemars::JsonSchema;
use serde::Serialize;

use super::{FORMAT_VERSION, count, line};
use crate::check::{Judged, Placed};
use crate::finding::{Finding, Severity};

/// What `check --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "Check")]
pub struct Check {
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub format_version: u32,
    /// Every config that was judged, once for each tmkms that runs it.
    pub configs: Vec<Row>,
    /// Units whose config couldn't be found.
    pub problems: Vec<Finding>,
}

/// A config, and what its tmkms does with it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Row {
    /// Its path, as it was named.
    pub config: PathBuf,
    /// The version that it was judged for.
    pub tmkms: String,
    /// Whether that tmkms would start.
    pub starts: bool,
    pub findings: Vec<Found>,
}

/// A finding and where it is.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Found {
    #[serde(flatten)]
    pub finding: Finding,
    /// 1-based column in the line, in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The last column that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_column: Option<usize>,
}

/// A judged config for a program.
pub fn row(config: &Path, tmkms: &str, judged: &Judged) -> Row {
    let found = |placed: &Placed| {
        let columns = placed
            .finding
            .line
            .map(|_| judged.source.columns(&placed.span));
        Found {
            finding: placed.finding.clone(),
            column: columns.map(|(first, _)| first),
            end_column: columns.map(|(_, last)| last),
        }
    };
    Row {
        config: config.to_owned(),
        tmkms: tmkms.to_owned(),
        starts: judged.starts(),
        findings: judged.findings.iter().map(found).collect(),
    }
}

/// A judged config for people.
pub fn text(config: &Path, tmkms: &str, judged: &Judged) -> String {
    let mut text = String::new();
    let renderer = Renderer::styled();
    for placed in &judged.findings {
        let finding = &placed.finding;
        let level = match finding.severity {
            Severity::Block => Level::ERROR,
            Severity::Warn => Level::WARNING,
            Severity::Info => Level::NOTE,
        };
        let code = finding.code.to_string();
        let shown = finding.line.and_then(|_| judged.source.shown(&placed.span));
        let path = config.display().to_string();
        let group = level.primary_title(&finding.message).id(&code);
        let help = Level::HELP.message(&finding.remedy);
        let rendered = match (&shown, finding.line) {
            (Some(shown), Some(number)) => {
                let mark = AnnotationKind::Primary.span(shown.marked.clone());
                let snippet = Snippet::source(&shown.line)
                    .path(&path)
                    .line_start(number)
                    .annotation(mark);
                renderer.render(&[group.element(snippet).element(help)])
            }
            (_, number) => {
                let place = match number {
                    Some(number) => format!("{path}:{number}"),
                    None => path,
                };
                let place = Level::NOTE.with_name("at").message(place);
                renderer.render(&[group.element(place).element(help)])
            }
        };
        line(&mut text, format_args!("{rendered}\n"));
    }
    line(
        &mut text,
        format_args!("{}", summary(config, tmkms, judged)),
    );
    text
}

/// A judged config in a line.
pub fn summary(config: &Path, tmkms: &str, judged: &Judged) -> String {
    let number = |severity| {
        let all = judged.findings.iter();
        all.filter(|p| p.finding.severity == severity).count()
    };
    let verdict = match judged.starts() {
        true => "would start",
        false => "would not run",
    };
    let mut rest = String::new();
    for (severity, noun) in [(Severity::Block, "error"), (Severity::Warn, "warning")] {
        if number(severity) > 0 {
            rest += &format!(", {}", count(number(severity), noun));
        }
    }
    format!("{}: tmkms {tmkms} {verdict}{rest}", config.display())
}

/// Findings as workflow commands, which GitHub shows beside the lines of a pull request.
pub fn github(config: &Path, judged: &Judged) -> String {
    let mut text = String::new();
    for placed in &judged.findings {
        let finding = &placed.finding;
        let command = match finding.severity {
            Severity::Block => "error",
            Severity::Warn => "warning",
            Severity::Info => "notice",
        };
        let mut place = format!("file={}", property(&config.display().to_string()));
        if let Some(number) = finding.line {
            let (first, last) = judged.source.columns(&placed.span);
            place += &format!(",line={number},col={first},endColumn={last}");
        }
        let message = format!("{}\n{}", finding.message, finding.remedy);
        let (title, message) = (property(&finding.code.to_string()), data(&message));
        line(
            &mut text,
            format_args!("::{command} {place},title={title}::{message}"),
        );
    }
    text
}

fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
