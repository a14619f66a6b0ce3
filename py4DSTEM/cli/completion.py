"""``py4dstem completion SHELL``: completion of commands, options and operations."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from string import Template

from py4DSTEM.cli import arguments
from py4DSTEM.cli.output import Exit, emit

__all__ = ["run", "words"]

BASH = Template("""\
# py4dstem completion for bash: eval "$$(py4dstem completion bash)"
_py4dstem() {
    local current="$${COMP_WORDS[COMP_CWORD]}" words=""
    if [ "$$COMP_CWORD" -eq 1 ]; then
        words="$commands"
    else
        case "$${COMP_WORDS[1]}" in
$cases
        esac
        case "$$current" in -*) ;; *) [ "$$COMP_CWORD" -eq 2 ] || words="" ;; esac
    fi
    COMPREPLY=($$(compgen -W "$$words" -- "$$current"))
}
complete -o default -o bashdefault -F _py4dstem py4dstem
""")

ZSH = Template("""\
#compdef py4dstem
# py4dstem completion for zsh: eval "$$(py4dstem completion zsh)"
_py4dstem() {
    local -a words_here
    if (( CURRENT == 2 )); then
        words_here=($commands)
    else
        case "$${words[2]}" in
$cases
        esac
    fi
    if [[ $$CURRENT -eq 2 || "$${words[CURRENT]}" == -* ]]; then
        compadd -- $$words_here
    else
        compadd -- $${words_here:#-*}
        _files
    fi
}
compdef _py4dstem py4dstem
""")


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    table = words()
    make = {"bash": _bash, "zsh": _zsh, "fish": _fish}[options.shell]
    emit(make(table).rstrip("\n"))
    return Exit.OK


def words() -> Mapping[str, list[str]]:
    """What may follow each command: its options, and the kinds of step for ``run``."""
    table = {}
    for name, (_, add) in arguments.COMMANDS.items():
        parser = argparse.ArgumentParser(add_help=True)
        add(parser)
        arguments.add_talking(parser)
        table[name] = _options(parser)
    more = {"run": _steps() + _run_options(), "completion": list(arguments.SHELLS)}
    return table | more | {"recipe": _recipe_words()}


def _recipe_words() -> list[str]:
    """Actions, templates, and the options of all actions."""
    parser = argparse.ArgumentParser()
    arguments.COMMANDS["recipe"][1](parser)
    actions = next(a.choices for a in parser._actions if isinstance(a.choices, dict))
    options = {option for action in actions.values() for option in _options(action)}
    return [*actions, *arguments.TEMPLATES.split(", "), *sorted(options)]


def _options(parser: argparse.ArgumentParser) -> list[str]:
    long = (o for action in parser._actions for o in action.option_strings if o.startswith("--"))
    return sorted(long)


def _steps() -> list[str]:
    from py4DSTEM.cli.run import steps

    return list(steps())


def _run_options() -> list[str]:
    from py4DSTEM.cli.run import common_parser

    return _options(common_parser())


def _bash(table: Mapping[str, list[str]]) -> str:
    cases = "\n".join(f'            {n}) words="{" ".join(w)}" ;;' for n, w in table.items())
    return BASH.substitute(commands=" ".join(table), cases=cases)


def _zsh(table: Mapping[str, list[str]]) -> str:
    cases = "\n".join(f"            {n}) words_here=({' '.join(w)}) ;;" for n, w in table.items())
    return ZSH.substitute(commands=" ".join(table), cases=cases)


def _fish(table: Mapping[str, list[str]]) -> str:
    lines = ["# py4dstem completion for fish: py4dstem completion fish | source"]
    none = '-n "not __fish_seen_subcommand_from ' + " ".join(table) + '"'
    for name, (summary, _) in arguments.COMMANDS.items():
        lines.append(f"complete -c py4dstem {none} -a {name} -d '{summary}'")
    for name, following in table.items():
        seen = f'-n "__fish_seen_subcommand_from {name}"'
        for word in following:
            kind = f"-l {word[2:]}" if word.startswith("--") else f"-a {word}"
            lines.append(f"complete -c py4dstem {seen} {kind}")
    return "\n".join(lines)
