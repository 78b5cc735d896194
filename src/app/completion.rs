//! `alinas-csi completion`: scripts that let a shell complete our command line.
//!
//! The subcommands and flags are clap's to complete. What it cannot do, options joined by commas behind `-o`,
//! is added here from the option table.

use clap::Args;
use clap_complete::Shell;

use crate::model::nfs_option::explain;

const NAME: &str = "alinas-csi";

/// Which script.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: SupportedShell,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SupportedShell {
    Bash,
    Zsh,
    Fish,
}

/// The script: `source <(alinas-csi completion bash)`.
#[must_use]
pub fn script(arguments: &CompletionArgs, mut command: clap::Command) -> String {
    let (shell, mount_options) = match arguments.shell {
        SupportedShell::Bash => (Shell::Bash, BASH),
        SupportedShell::Zsh => (Shell::Zsh, ZSH),
        SupportedShell::Fish => (Shell::Fish, FISH),
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, NAME, &mut script);
    let script = String::from_utf8_lossy(&script);
    format!("{script}\n{}", mount_options.replace("@WORDS@", &explain::words().join(" ")))
}

/// A `=` ends a word for bash, so the options are taken from the line itself.
const BASH: &str = r#"
_alinas_csi_with_options() {
    local line=${COMP_LINE:0:COMP_POINT} word=${COMP_WORDS[COMP_CWORD]}
    local before=${line% *} options=${line##* } front=
    case "${COMP_WORDS[1]} ${before##* }" in
    "mount -o" | "explain explain") ;;
    *) _alinas__csi "$@"; return ;;
    esac
    COMPREPLY=()
    # Behind the `=` of an option its value stands, not another option.
    [[ ${options##*,} == *=* || $options == -* ]] && return
    [[ $word == *,* ]] && front=${word%,*},
    compopt -o nospace
    mapfile -t COMPREPLY < <(compgen -P "$front" -W "@WORDS@" -- "${options##*,}")
}
complete -F _alinas_csi_with_options -o bashdefault -o default alinas-csi
"#;

const ZSH: &str = r#"
_alinas_csi_with_options() {
    case "${words[2]} ${words[CURRENT-1]}" in
    "mount -o" | "explain explain")
        compset -P '*,'
        compadd -S '' -- @WORDS@
        ;;
    *) _alinas-csi "$@" ;;
    esac
}
compdef _alinas_csi_with_options alinas-csi
"#;

const FISH: &str = r#"
complete -c alinas-csi -n "__fish_seen_subcommand_from mount" -s o -x -a "(__fish_append , @WORDS@)"
complete -c alinas-csi -n "__fish_seen_subcommand_from explain" -f -a "@WORDS@"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_completes_the_command_line_and_the_options_of_a_mount() {
        for (shell, main) in [
            (SupportedShell::Bash, "_alinas__csi() {"),
            (SupportedShell::Zsh, "_alinas-csi() {"),
            (SupportedShell::Fish, "__fish_alinas_csi_needs_command"),
        ] {
            let command = clap::Command::new(NAME).subcommand(clap::Command::new("explain"));
            let script = script(&CompletionArgs { shell }, command);
            // The last is clap's own, which ours calls for all the rest.
            for part in ["explain", " rsize= ", " noac ", "mount", main] {
                assert!(script.contains(part), "{shell:?} lacks {part:?}: {script}");
            }
            assert!(!script.contains("@WORDS@"), "{shell:?}");
        }
    }
}
