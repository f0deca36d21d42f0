//! The example config that the package brings: it names flags that exist, with the values that they have anyway.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use clap::{Arg, Command, CommandFactory};
use kmsctl::cli::Cli;
use toml_edit::{DocumentMut, Item};

const EXAMPLE: &str = include_str!("../packaging/kmsctl.toml");

#[test]
fn as_it_comes_it_sets_nothing() {
    let example: DocumentMut = EXAMPLE.parse().unwrap();
    for (name, item) in example.iter() {
        assert!(item.as_table().is_some_and(|t| t.is_empty()), "{name}");
    }
}

#[test]
fn every_key_is_a_flag_at_its_default() {
    // What is commented out begins right after the `#`; sentences have a space there.
    let uncommented: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let example: DocumentMut = uncommented.parse().unwrap();
    let command = Cli::command();
    let mut keys = 0;
    for (name, item) in example.iter() {
        let Some(table) = item.as_table() else {
            let flag = flag(&command, name);
            assert!(flag.is_global_set(), "{name} isn't a flag of every verb");
            is_default(flag, item);
            keys += 1;
            continue;
        };
        let verb = command.find_subcommand(name);
        let verb = verb.unwrap_or_else(|| panic!("[{name}] is no verb"));
        assert!(!table.is_empty(), "[{name}] is empty");
        for (name, item) in table.iter() {
            is_default(flag(verb, name), item);
            keys += 1;
        }
    }
    assert!(keys > 10, "{keys} keys");
}

#[track_caller]
fn flag<'a>(command: &'a Command, long: &str) -> &'a Arg {
    let mut flags = command.get_arguments();
    let flag = flags.find(|argument| argument.get_long() == Some(long));
    flag.unwrap_or_else(|| panic!("{} has no --{long}", command.get_name()))
}

#[track_caller]
fn is_default(flag: &Arg, item: &Item) {
    let given = match item.as_str() {
        Some(text) => text.to_owned(),
        None => item.to_string().trim().to_owned(),
    };
    let default = match flag.get_default_values() {
        [] => "false".to_owned(),
        [default] => default.to_str().unwrap().to_owned(),
        several => panic!("--{}: {several:?}", flag.get_id()),
    };
    assert_eq!(given, default, "--{}", flag.get_id());
}
