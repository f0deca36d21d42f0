//! What a unit means: its fragment and drop-ins put together as systemd does, for one name of it.
//!
//! The live host asks systemd itself. This reading serves `--root`, and proves of every new unit that it starts what the
//! plan says before a byte of it is written.

use std::path::PathBuf;

use super::variables::{self, Variables};
use super::words::{self, expand, expand_known};
use super::{Setting, UnitName, UnitText};

/// A unit as it would be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// argv of each command of ExecStart, beginning with the program's own path; variables are not put in yet.
    pub exec: Vec<Vec<String>>,
    pub user: String,
    /// `/` where the unit says nothing.
    pub working_directory: PathBuf,
    pub variables: Variables,
    pub environment_files: Vec<EnvironmentFile>,
    /// The variables that `PassEnvironment=` takes from the manager or `UnsetEnvironment=` takes away.
    pub outside_variables: Vec<String>,
    pub kind: String,
    /// The kind of `StandardOutput=`, such as `journal`, `append` or `null`.
    pub output: String,
    /// The paths whose existence bars a start (`AssertPathExists=!…`).
    pub barred_by: Vec<PathBuf>,
    /// Nothing of it depends on what only a running systemd knows.
    pub certain: bool,
}

/// An `EnvironmentFile=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentFile {
    /// As the unit names it: its last component may be a pattern.
    pub path: PathBuf,
    /// The unit starts without it (a leading `-`).
    pub optional: bool,
}

impl Effective {
    /// Reads what a unit of this name means.
    ///
    /// # Errors
    /// A specifier or a quoting that can't be read; with the setting's own line, which is its own file's.
    pub fn of(name: &UnitName, text: &UnitText) -> Result<Effective, String> {
        let explain =
            |setting: &Setting, e: String| format!("line {}, {}=: {e}", setting.line, setting.key);
        let mut exec = Vec::new();
        for setting in text.list("Service", "ExecStart") {
            exec.extend(commands(&setting.value, name).map_err(|e| explain(setting, e))?);
        }
        let mut certain = true;
        let mut variables = Variables::default();
        for setting in text.list("Service", "Environment") {
            let words = words::split(&setting.value).map_err(|e| explain(setting, e))?;
            // What only a running systemd can tell is left as it is: no config is named by it.
            certain &= words.iter().all(|w| expand(w, name).is_ok());
            let words: Vec<String> = words.iter().map(|w| expand_known(w, name)).collect();
            variables.assign(&words);
        }
        let mut environment_files = Vec::new();
        for setting in text.list("Service", "EnvironmentFile") {
            let written = setting.value.strip_prefix('-');
            let path = expand(written.unwrap_or(&setting.value), name);
            environment_files.push(EnvironmentFile {
                path: PathBuf::from(path.map_err(|e| explain(setting, e))?),
                optional: written.is_some(),
            });
        }
        let mut outside_variables = Vec::new();
        for key in ["PassEnvironment", "UnsetEnvironment"] {
            for setting in text.list("Service", key) {
                let words = words::split(&setting.value).map_err(|e| explain(setting, e))?;
                outside_variables.extend(words.iter().map(|w| variables::name(w)));
            }
        }
        let one = |key: &str| text.list("Service", key).last().copied();
        let directory = match one("WorkingDirectory") {
            Some(setting) => expand(setting.value.trim_start_matches('-'), name)
                .map_err(|e| explain(setting, e))?,
            None => "/".into(),
        };
        let directory = if directory == "~" {
            certain = false;
            "/root".into()
        } else {
            directory
        };
        certain &= directory.starts_with('/');
        certain &= environment_files.iter().all(|f| f.path.is_absolute());
        let kind = one("Type").map_or_else(|| "simple".into(), |s| s.value.clone());
        // systemd refuses to load it then.
        certain &= exec.len() == 1 || kind == "oneshot";
        Ok(Effective {
            exec,
            user: one("User").map_or_else(String::new, |s| {
                expand(&s.value, name).unwrap_or_else(|_| {
                    certain = false;
                    s.value.clone()
                })
            }),
            working_directory: PathBuf::from(directory),
            variables,
            environment_files,
            outside_variables,
            output: one("StandardOutput").map_or_else(
                || "journal".into(),
                |s| s.value.split(':').next().unwrap_or_default().to_owned(),
            ),
            kind,
            barred_by: barred_by(text),
            certain,
        })
    }
}

/// The paths whose existence bars a start. An empty assertion of any kind takes all assertions back.
fn barred_by(text: &UnitText) -> Vec<PathBuf> {
    let of_unit = text.settings.iter().filter(|s| s.section == "Unit");
    let mut barred = Vec::new();
    for setting in of_unit.filter(|s| s.key.starts_with("Assert")) {
        if setting.value.is_empty() {
            barred.clear();
        } else if setting.key == "AssertPathExists" {
            barred.extend(setting.value.strip_prefix('!').map(PathBuf::from));
        }
    }
    barred
}

/// The commands of an Exec line, which `;` separates, each beginning with what is really run: after `@` the second word
/// is only what the program is told that its name is. After `:` no variable is put in: a dollar sign is doubled, so that
/// it stays one.
fn commands(value: &str, name: &UnitName) -> Result<Vec<Vec<String>>, String> {
    let words = words::split_at(value)?;
    let mut commands = Vec::new();
    for words in words.split(|word| &value[word.span.clone()] == ";") {
        let Some(first) = words.first() else { continue };
        let program = first.text.trim_start_matches(PREFIXES);
        let prefix = &first.text[..first.text.len() - program.len()];
        let mut argv = vec![expand(program, name)?];
        for word in &words[1..] {
            let word = expand(&word.text, name)?;
            argv.push(match prefix.contains(':') {
                true => word.replace('$', "$$"),
                false => word,
            });
        }
        if prefix.contains('@') && argv.len() > 1 {
            argv.remove(1);
        }
        commands.push(argv);
    }
    Ok(commands)
}

/// What may stand before the program of an Exec line (systemd.service(5)).
pub const PREFIXES: [char; 5] = ['-', '@', ':', '+', '!'];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(service: &str) -> Effective {
        let text = UnitText::parse(&format!("[Service]\n{service}\n")).unwrap();
        Effective::of(&"k-1.service".parse().unwrap(), &text).unwrap()
    }

    #[test]
    fn a_semicolon_separates_commands() {
        let exec = |line: &str| of(&format!("ExecStart={line}")).exec;
        assert_eq!(
            exec("/bin/true ; -/b/tmkms start -c /k/%N.toml ;"),
            [
                &["/bin/true"][..],
                &["/b/tmkms", "start", "-c", "/k/k-1.toml"]
            ]
        );
        for literal in ["\\;", "\";\"", "';'"] {
            assert_eq!(exec(&format!("/b/t {literal} x")), [["/b/t", ";", "x"]]);
        }
        assert_eq!(exec("/b/t a;b c;"), [["/b/t", "a;b", "c;"]]);
    }

    #[test]
    fn a_colon_keeps_variables_out() {
        let unit = of("Environment=A=1\nExecStart=:@/b/t name $A ${A} $$A\nExecStart=/b/t $A");
        let put_in = |n: usize| unit.variables.substitute(&unit.exec[n]);
        assert_eq!(put_in(0), ["/b/t", "$A", "${A}", "$$A"]);
        assert_eq!(put_in(1), ["/b/t", "1"]);
        assert_eq!(unit.variables.unset(&unit.exec[0]), None);
    }

    #[test]
    fn an_empty_assertion_takes_all_back() {
        let of = |unit: &str| {
            let text = UnitText::parse(&format!("[Unit]\n{unit}\n")).unwrap();
            Effective::of(&"k-1.service".parse().unwrap(), &text)
                .unwrap()
                .barred_by
        };
        let fence = "AssertPathExists=!/etc/a.closed";
        assert_eq!(of(fence), [PathBuf::from("/etc/a.closed")]);
        let others = format!("AssertPathExists=/b\n{fence}\nAssertUser=root\nWants=");
        assert_eq!(of(&others), [PathBuf::from("/etc/a.closed")]);
        for reset in ["AssertPathExists=", "AssertPathIsDirectory="] {
            assert!(of(&format!("{fence}\n{reset}")).is_empty(), "{reset}");
            assert_eq!(of(&format!("{reset}\n{fence}")).len(), 1, "{reset}");
        }
    }

    #[test]
    fn what_only_a_running_systemd_knows_isn_t_certain() {
        let certain = |more: &str| of(&format!("ExecStart=/b/tmkms start\n{more}")).certain;
        for known in [
            "",
            "WorkingDirectory=/srv/%N",
            "User=tmkms",
            "Environment=A=%n",
            "Type=oneshot\nExecStart=/b/t",
            "EnvironmentFile=-/etc/a",
        ] {
            assert!(certain(known), "{known}");
        }
        for unknown in [
            "WorkingDirectory=~",
            "WorkingDirectory=data",
            "User=%m",
            "Environment=A=%H",
            "ExecStart=/b/t",
            "EnvironmentFile=etc/a",
        ] {
            assert!(!certain(unknown), "{unknown}");
        }
    }

    #[test]
    fn what_the_environment_comes_from() {
        let unit = of(
            "Environment=A=%N-%H\nEnvironmentFile=-/e/%N\nEnvironmentFile=/e/*.env\n\
             PassEnvironment=B C\nUnsetEnvironment=D=1 \"E\"",
        );
        assert_eq!(unit.variables.get("A"), Some("k-1-%H"));
        let files: Vec<(&str, bool)> = unit
            .environment_files
            .iter()
            .map(|f| (f.path.to_str().unwrap(), f.optional))
            .collect();
        assert_eq!(files, [("/e/k-1", true), ("/e/*.env", false)]);
        assert_eq!(unit.outside_variables, ["B", "C", "D", "E"]);
    }
}
