//! What no config should ever be: a finding or a clear error, at once, and never a panic.

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::corpus;

/// Runs `check` for 0.15.0 on a config of these bytes; none may take long, in a build that isn't optimised either.
fn check(bytes: &[u8]) -> (Output, String) {
    let desk = corpus::desk();
    fs::write(desk.path().join("bad.toml"), bytes).unwrap();
    let began = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_kmsctl"))
        .args([
            "check",
            "--no-settings",
            "--color",
            "never",
            "--tmkms",
            "0.15.0",
            "bad.toml",
        ])
        .current_dir(desk.path())
        .output()
        .unwrap();
    let took = began.elapsed();
    // Seconds on a machine that has nothing else to do; what isn't linear takes hours.
    assert!(took < Duration::from_secs(120), "{took:?}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

#[track_caller]
fn refused(bytes: &[u8], code: &str) -> String {
    let (output, text) = check(bytes);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}{text}");
    assert!(!error.contains("panicked"), "{error}");
    assert!(text.contains(&format!("error[{code}]")), "{text}");
    assert!(text.len() < 200_000, "{} bytes are said", text.len());
    text
}

/// A sound config with something before it.
fn after(text: &str) -> Vec<u8> {
    let plain = &corpus::configs()["plain"];
    [text.as_bytes(), plain].concat()
}

#[test]
fn ten_megabytes() {
    const TEN: usize = 10 << 20;
    // Of each: many small things, which any work done anew for each of them would make slow, and one large thing.
    let fields: String = (0..TEN / 24)
        .map(|n| format!("field{n} = \"value\" # one\n"))
        .collect();
    refused(&after(&fields), "field-unknown");
    let chains = "[[chain]]\nid = \"a\"\nkey_format = { type = \"hex\" }\n".repeat(TEN / 48);
    refused(&after(&chains), "chain-repeated");
    let ids = format!("x = [{}]\n", "\"orbit-1\", ".repeat(TEN / 11));
    refused(&after(&ids), "field-unknown");
    let long = format!("chain_ids = \"{}\"\n", "a".repeat(TEN));
    refused(&after(&long), "field-unknown");
    refused(&vec![b'['; TEN], "config-invalid");
    refused(&vec![b'\n'; TEN], "config-invalid");
    refused(&vec![0; TEN], "config-invalid");
    refused(&vec![0xff; TEN], "config-invalid");
}

#[test]
fn more_than_any_config() {
    refused(&vec![b'#'; 17 << 20], "config-unreadable");
}

#[test]
fn deep_nesting() {
    for depth in [100, 10_000, 1_000_000] {
        refused(
            &after(&format!("x = {}{}\n", "[".repeat(depth), "]".repeat(depth))),
            "config-invalid",
        );
        refused(
            &after(&format!(
                "x = {}{}\n",
                "{a=".repeat(depth),
                "}".repeat(depth)
            )),
            "config-invalid",
        );
        refused(
            &after(&format!("x{} = 1\n", ".a".repeat(depth))),
            "config-invalid",
        );
        refused(
            &after(&format!("[x{}]\n", ".a".repeat(depth))),
            "config-invalid",
        );
    }
}

#[test]
fn bytes_that_are_no_text() {
    refused(&after("a = \"\0\"\n"), "config-invalid");
    let text = refused(b"# fine\n# \xff\xfe\n", "config-invalid");
    assert!(text.contains("bad.toml:2"), "{text}");
    refused(&after("\u{feff}\u{feff}"), "config-invalid");
}

/// What is shown of a text that isn't TOML holds no value of it, and of one that is no secret.
#[test]
fn no_secret_is_shown() {
    const SECRET: &str = "made-up-fixture-password";
    for (text, code) in [
        (format!("password = \"{SECRET}\n"), "config-invalid"),
        (format!("\"\"\"\n{SECRET}\n"), "config-invalid"),
        (format!("x = '''\n{SECRET}\n'' \n"), "config-invalid"),
        (format!("[vault.\"{SECRET}]\n"), "config-invalid"),
        (format!("{SECRET}\n"), "config-invalid"),
        (format!("{SECRET}=1\n\"\n"), "config-invalid"),
        (format!("x = \"\"\"\n{SECRET} = 1\n"), "config-invalid"),
        (
            format!("pasword = \"{SECRET}\" # {SECRET}\n"),
            "field-unknown",
        ),
        (
            format!("vault = {{ a = {{ b = [\"{SECRET}\"] }} }}\n"),
            "field-unknown",
        ),
    ] {
        let said = refused(&after(&text), code);
        assert!(!said.contains(SECRET), "{said}");
    }
}

/// Named so that a release build can be measured: `cargo test --release --test check thousand -- --nocapture`.
#[test]
fn a_thousand_configs() {
    let desk = corpus::desk();
    let sound = &corpus::configs()["plain"];
    let names: Vec<String> = (0..1000).map(|n| format!("tmkms-{n}.toml")).collect();
    for name in &names {
        fs::write(desk.path().join(name), sound).unwrap();
    }
    let began = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_kmsctl"))
        .args(["check", "--no-settings", "--json", "--tmkms", "0.14.0"])
        .args(&names)
        .current_dir(desk.path())
        .output()
        .unwrap();
    let took = began.elapsed();
    assert_eq!(output.status.code(), Some(0));
    eprintln!("check of 1000 configs: {took:?}");
    let most = if cfg!(debug_assertions) { 10 } else { 1 };
    assert!(took < Duration::from_secs(most), "{took:?}");
}
