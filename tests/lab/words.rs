//! What kmsctl reads in units and environment files, held against what a real systemd makes of the same texts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use kmsctl::unit::effective::Effective;
use kmsctl::unit::variables::Variables;
use kmsctl::unit::{UnitName, UnitText};

use crate::machine::{Lab, Machine};

/// Two files of one pattern, in the order of their names.
const FILES: [(&str, &str); 2] = [
    (
        "1.env",
        "# comment\n  ; K_NO=1\nK_PLAIN=1\n K_BLANKS = 1 2 \t\nK_EMPTY=\nK_DOUBLE=\"x y\"z\nK_SINGLE='x' 'y'\n\
         K_LINES=\"a\nb\"\nK_ESCAPES=\"a\\\"\\\\\\$\\n\\`\"\nK_RAW='a\\'\nK_BARE=a\\ b\\\\c\\n\nK_ON=a \\\n b\n\
         K_QUOTED_ON=\"a \\\n b\"\nK_TEXT=it's # here ; too\nK_INNER=x\"y\"\nK_LAST_BLANK=a\\ \nexport K_EXPORT=1\n\
         2K_DIGIT=1\nK-DASH=1\nno line\nK_EQUALS=a=b = c\nK_CR=1\r\nK_DOLLAR=$K_PLAIN ${K_PLAIN}\nK_UTF=\u{e9}\u{a0}\n\
         K_MIX='a b'\"c d\"e f \nK_TWICE=1\nK_TAB=\ta\t\nK_PERCENT=%n\nK_OPEN=\"open\n",
    ),
    ("2.env", "K_TWICE=2\nK_BELL=a\u{7}b\nK_END=\\"),
];
const SAY: &str = "/usr/local/bin/say";
/// What a command may look like; `SAY` stands for a program that writes down its words.
const COMMANDS: [&str; 11] = [
    "SAY a \"b c\" 'd e' f\\sg \"h\"i",
    "SAY $OPTS ${OPTS} x${A}y $$A $NONE ${A} $ a$A",
    ":SAY $OPTS ${A} $$A",
    "@SAY name x $A",
    "-@:SAY name x $A",
    "/bin/true ; SAY a \\; b ';' c; d ; SAY e ;",
    "SAY %N %p %% $A/x %i",
    "SAY \"a \\\n  b\" c\\\n  d \\\n\te",
    "SAY a\u{a0}b \\\\ \\\" \\'",
    "SAY $ODD $PARTS",
    "+SAY \"-c ${PATHS}\" --config=${PATHS} '$A'",
];
const VARIABLES: &str = "Environment=A=1 \"OPTS=start -c \\\"/x y.toml\\\" 'a b'\" PATHS=/k/%N.toml 3=no NAME-NO=1\n\
                         Environment=\"ODD=a\\\\\\\\ b \\\"open c\" PARTS=x\ty\n";

fn unit(command: &str, out: &str) -> String {
    let command = command.replace("SAY", SAY);
    format!("[Service]\nType=oneshot\n{VARIABLES}Environment=OUT={out}\nExecStart={command}\n")
}

fn name(n: usize) -> Result<UnitName> {
    format!("say-{n}.service").parse()
}

#[test]
fn units_and_environment_files_mean_what_systemd_takes_them_for() -> Result<()> {
    let lab = Lab::open()?;
    let machine = Machine::boot(&lab, |root| {
        let write = |path: &str, text: &str| -> Result<()> {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap_or(root)).context("making a folder")?;
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        for (name, text) in FILES {
            write(&format!("etc/words/{name}"), text)?;
        }
        write("etc/words/.hidden.env", "K_HIDDEN=1\n")?;
        write(
            "etc/systemd/system/environment.service",
            "[Service]\nType=oneshot\nEnvironmentFile=/etc/words/*.en[v]\nStandardOutput=file:/words.out\nExecStart=/usr/bin/env -0\n",
        )?;
        write(
            "usr/local/bin/say",
            "#!/bin/sh\nprintf '%s\\0' \"$@\" end >>\"$OUT\"\n",
        )?;
        fs::set_permissions(
            root.join("usr/local/bin/say"),
            fs::Permissions::from_mode(0o755),
        )?;
        for (n, command) in COMMANDS.iter().enumerate() {
            let unit = unit(command, &format!("/say.{n}"));
            write(&format!("etc/systemd/system/{}", name(n)?), &unit)?;
        }
        Ok(())
    })?;
    machine.sh("systemctl start environment.service")?;
    assert_eq!(ours()?, systemds(&machine)?);
    for (n, command) in COMMANDS.iter().enumerate() {
        machine.sh(&format!("systemctl start {}", name(n)?))?;
        let said = fs::read_to_string(machine.file(Path::new(&format!("/say.{n}"))))
            .with_context(|| format!("{command} said nothing"))?;
        assert_eq!(said_by(n, command)?, said, "{command}");
    }
    Ok(())
}

/// The corpus' variables as kmsctl reads them.
fn ours() -> Result<BTreeMap<String, String>> {
    let mut variables = Variables::default();
    let mut found = BTreeMap::new();
    for (_, text) in FILES {
        variables.read(text).map_err(|e| anyhow!(e))?;
    }
    let words = FILES.iter().flat_map(|(_, text)| {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')
    });
    for word in words.filter(|w| w.contains("K_") || w.contains("K-")) {
        if let Some(value) = variables.get(word) {
            found.insert(word.to_owned(), value.to_owned());
        }
    }
    Ok(found)
}

fn systemds(machine: &Machine) -> Result<BTreeMap<String, String>> {
    let out = fs::read_to_string(machine.file("/words.out")).context("reading the environment")?;
    let pairs = out.split('\0').filter_map(|pair| pair.split_once('='));
    Ok(pairs
        .filter(|(name, _)| name.contains("K_") || name.contains("K-"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

/// What the program would write down if systemd made of the unit what kmsctl does.
fn said_by(n: usize, command: &str) -> Result<String> {
    let text = UnitText::parse(&unit(command, "/out")).map_err(|e| anyhow!("{e}"))?;
    let unit = Effective::of(&name(n)?, &text).map_err(|e| anyhow!("{command}: {e}"))?;
    let mut said = String::new();
    for argv in unit.exec.iter().filter(|argv| argv[0] == SAY) {
        for word in &unit.variables.substitute(argv)[1..] {
            said.push_str(word);
            said.push('\0');
        }
        said.push_str("end\0");
    }
    Ok(said)
}
