//! The operator of the pages: somebody at a terminal of a host that is a folder, who never notices the folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use regex::Regex;
use stand_in_oasis_node::answer::Shape;

use super::key;
use super::support::held::killed;
use super::support::{Host, oasis};
use super::terminal;

pub struct Operator {
    host: Option<Host>,
    power_fails_before: Option<String>,
}

impl Operator {
    /// Before a page has said which host it is about.
    pub fn nowhere() -> Operator {
        Operator {
            host: None,
            power_fails_before: None,
        }
    }

    /// Root, in their home folder, on a copy of a fixture's host.
    pub fn of(case: &str) -> Operator {
        if case == "oasis" {
            // Its answer is of now: a recorded one of another day proves nothing.
            let host = oasis::host();
            oasis::records(&host, &oasis::holder(1, 45121, 600), Shape::Secrets);
            return Operator::on(host);
        }
        Operator::on(Host::of(case))
    }

    /// The same on a host of its own, which is like this one now.
    pub fn again(&self) -> Operator {
        Operator::on(Host::like(self.host()))
    }

    fn on(host: Host) -> Operator {
        fs::create_dir_all(host.path("root")).unwrap();
        Operator {
            host: Some(host),
            ..Operator::nowhere()
        }
    }

    fn host(&self) -> &Host {
        self.host
            .as_ref()
            .expect("the page says first which host it is about")
    }

    pub fn writes(&self, path: &str, content: &str) {
        self.host().write(path, content);
    }

    /// Copies what a validator that was stopped leaves; both files are made up.
    pub fn copies(&self, chain: &str, height: u64) {
        let key = "root/priv_validator_key.json";
        self.host().write(key, &key::file());
        let closed = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.host().path(key), closed).unwrap();
        let state = key::state(chain, height, &key::SEED);
        self.host().write("root/priv_validator_state.json", &state);
    }

    /// Lets a shell do something, which must succeed.
    pub fn meanwhile(&self, command: &str) {
        let mut sh = self.sh(&self.below_the_root(command));
        assert!(sh.status().unwrap().success(), "meanwhile: {command}");
    }

    pub fn power_fails_before(&mut self, step: &str) {
        self.power_fails_before = Some(step.to_owned());
    }

    /// Types a line; what the terminal shows until its end, and its exit code.
    pub fn runs(&mut self, typed: &str) -> String {
        let words = &typed[2..];
        if let Some(step) = self.power_fails_before.take() {
            let words = words.strip_prefix("kmsctl ").unwrap();
            // Staging does one step after the other anyhow.
            let all = match words {
                "stage" | "unstage" => vec![words, "--yes", "--json"],
                _ => vec![words, "--yes", "--json", "--parallel", "1"],
            };
            killed(self.host(), &all, &step);
            return String::new();
        }
        let (shown, code) = terminal::shows(self.sh(&self.script(words)));
        let mut shown = self.as_on_a_host(&shown);
        if code != 0 {
            shown += &format!("[exit {code}]\n");
        }
        shown
    }

    fn sh(&self, script: &str) -> Command {
        let mut sh = Command::new("sh");
        sh.arg("-c")
            .arg(script)
            .env("LC_ALL", "C")
            .current_dir(self.host().path("root"));
        sh
    }

    fn root(&self) -> String {
        let root = self.host().root().canonicalize().unwrap();
        root.into_os_string().into_string().unwrap()
    }

    fn below_the_root(&self, command: &str) -> String {
        command.replace(" /", &format!(" {}/", self.root()))
    }

    fn script(&self, words: &str) -> String {
        let program = env!("CARGO_BIN_EXE_kmsctl");
        match words.strip_prefix("kmsctl ") {
            None => self.below_the_root(words),
            Some(rest) if rest.contains("--root") => format!("{program} {rest}"),
            Some(rest) => format!("{program} --root {} {rest}", self.root()),
        }
    }

    /// What was shown, as if the folder were a host, at one time for ever.
    fn as_on_a_host(&self, shown: &str) -> String {
        let mut text = shown.replace(&self.root(), "");
        for (shape, fixed) in [
            (
                r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8} UTC",
                "2026-03-14 03:02:11 UTC",
            ),
            (
                r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]+Z",
                "2026-03-14T03:02:11Z",
            ),
            (r"by uid [0-9]+", "by uid 0"),
            (r#""host":"model""#, r#""host":"kms-1""#),
            (r"Snapshot of model ", "Snapshot of kms-1 "),
        ] {
            text = Regex::new(shape)
                .unwrap()
                .replace_all(&text, fixed)
                .into_owned();
        }
        text
    }
}
