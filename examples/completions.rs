// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes the completions of bash, zsh and fish into a directory, which is made where it is not there:
//!
//! ```text
//! cargo run --example completions target/completions
//! ```
//!
//! `make` does this, so the program itself carries no generator. What the generator cannot know is added here: the names of modules, of
//! those that have failed, of kernels and of levels. The shells ask for them when somebody completes one, in the same words.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use addonce::cli::Cli;
use clap::CommandFactory;
use clap_complete::{Shell, generate};

const USAGE: &str = "usage: completions DIRECTORY";

/// Modules of the running kernel, built in or not, by the names that it has for them. All three shells understand these lines.
const MODULES: &str = r#"command cat "/lib/modules/$(uname -r)/modules.dep" "/lib/modules/$(uname -r)/modules.builtin" 2>/dev/null | command sed "s|:.*||; s|.*/||; s|[.]ko.*||; y|-|_|""#;
const FAILED: &str = r#"addonce failed --json 2>/dev/null | command grep -o "\"module\": *\"[^\"]*\"" | command cut -d "\"" -f 4"#;
const KERNELS: &str = "command ls /lib/modules 2>/dev/null";
const LEVELS: &str = "error warn info debug trace";

/// Goes behind the generated function, which knows all the rest. Where names are left unset, what that one found stands; where there are
/// none, it is a file.
const BASH: &str = r#"
_addonce_names() {
    local word names before=$3
    _addonce "$@"
    [[ $2 != -* ]] || return 0
    # --log=warn is three words here.
    [[ $before != = ]] || before=${COMP_WORDS[COMP_CWORD-2]}
    case $before in
        --log) names="LEVELS" ;;
        --kernel) names=$(KERNELS) ;;
        --json|[!-]*)
            for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
                case $word in
                    explain|load) names=$(MODULES); break ;;
                    retry|failed) names=$(FAILED); break ;;
                    record|replay|plot) names=; break ;;
                    help) break ;;
                esac
            done
            ;;
    esac
    [[ -z ${names+set} ]] || COMPREPLY=($(compgen -W "$names" -- "$2"))
}
complete -F _addonce_names -o bashdefault -o default addonce
"#;

/// What zsh's specification of an argument or of an option's value has in it, and what is asked in place of its `_default`.
const ZSH: [(&str, &str); 5] = [
    (":LEVEL:", "(LEVELS)"),
    (":VERSION:", "_addonce_kernels"),
    ("::what -- ", "_addonce_modules"),
    (":alias -- ", "_addonce_modules"),
    ("::modules -- ", "_addonce_failed"),
];
const ZSH_FUNCTIONS: &str = r#"
_addonce_kernels() { compadd "$@" -- ${(f)"$(KERNELS)"} }
_addonce_modules() { compadd "$@" -- ${(f)"$(MODULES)"} || _files }
_addonce_failed() { compadd "$@" -- ${(f)"$(FAILED)"} }
"#;

const FISH: &str = r#"
complete -c addonce -l log -x -a "LEVELS"
complete -c addonce -n "__fish_addonce_using_subcommand daemon serve scan explain replay" -l kernel -x -a '(KERNELS)'
complete -c addonce -n "__fish_addonce_using_subcommand explain load" -a '(MODULES)'
complete -c addonce -n "__fish_addonce_using_subcommand retry failed" -f -a '(FAILED)'
"#;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("completions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let directory = PathBuf::from(std::env::args_os().nth(1).ok_or(USAGE)?);
    let named = |error: std::io::Error| format!("{}: {error}", directory.display());
    fs::create_dir_all(&directory).map_err(named)?;
    for (shell, file) in
        [(Shell::Bash, "addonce.bash"), (Shell::Zsh, "_addonce"), (Shell::Fish, "addonce.fish")]
    {
        let mut text = Vec::new();
        generate(shell, &mut Cli::command(), "addonce", &mut text);
        let text = with_names(shell, String::from_utf8(text)?)?;
        fs::write(directory.join(file), text).map_err(named)?;
    }
    Ok(())
}

fn with_names(shell: Shell, generated: String) -> Result<String, String> {
    let text = match shell {
        Shell::Bash => generated + BASH,
        Shell::Zsh => in_zsh(&generated)?,
        _ => generated + FISH,
    };
    let names = [("MODULES", MODULES), ("FAILED", FAILED), ("KERNELS", KERNELS), ("LEVELS", LEVELS)];
    Ok(names.iter().fold(text, |text, (word, names)| text.replace(word, names)))
}

/// Its specifications say what is asked, so they are changed.
fn in_zsh(generated: &str) -> Result<String, String> {
    const DEFAULT: &str = ":_default' \\";
    let mut text = String::new();
    let mut found = [false; ZSH.len()];
    for line in generated.lines() {
        let place = ZSH.iter().position(|(what, _)| line.ends_with(DEFAULT) && line.contains(what));
        match place {
            Some(n) => {
                found[n] = true;
                text += &line.replace(DEFAULT, &format!(":{}' \\", ZSH[n].1));
            }
            None => text += line,
        }
        text += "\n";
        // The first line says that it is a completion.
        if line.starts_with("#compdef") {
            text += ZSH_FUNCTIONS;
        }
    }
    match found.iter().position(|found| !found) {
        Some(n) => Err(format!("the generator has no {} for zsh any more", ZSH[n].0)),
        None => Ok(text),
    }
}
