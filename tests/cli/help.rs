//! Help, all of it in one snapshot: the manual cannot drift from the program.

use ucl_tests::command::ucl;

const COMMANDS: [&str; 13] = [
    "inspect", "convert", "plan", "derive", "explain", "diff", "verify", "check", "test", "fmt",
    "compile", "specs", "synth",
];

#[test]
fn help_of_every_command() {
    let whole = ucl(&["--help"]);
    assert_eq!((whole.code, whole.err.as_str()), (0, ""));
    let mut text = whole.out;
    for command in COMMANDS {
        let ended = ucl(&[command, "--help"]);
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{command}");
        text.push_str(&format!("\n=== ucl {command}\n{}", ended.out));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn every_command_has_its_help_here() {
    let listed = ucl(&["--help"]).out;
    let commands = listed.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let names: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, COMMANDS);
}

#[test]
fn wrong_arguments_are_exit_code_2() {
    let wrong: [&[&str]; 7] = [
        &[],
        &["convrt"],
        &["inspect"],
        &["convert", "a", "b", "--memory", "much"],
        &["convert", "a", "b", "--set", "k"],
        &["convert", "a", "b", "--mesh", "tp=0"],
        &["convert", "a", "b", "--dtype", "i64"],
    ];
    let mut text = String::new();
    for arguments in wrong {
        let ended = ucl(arguments);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{arguments:?}");
        if !arguments.is_empty() {
            text.push_str(&format!("$ ucl {}\n{}\n", arguments.join(" "), ended.err));
        }
    }
    insta::assert_snapshot!(text);
}
