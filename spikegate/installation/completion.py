"""spikegate completion bash|zsh|fish: a completion script, written from the commands' own settings."""

from __future__ import annotations

import dataclasses
import shlex
import sys
import types
from collections.abc import Iterator
from importlib import import_module
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from spikegate.command import cli
from spikegate.command.runs import zoo_names
from spikegate.command.table import COMMANDS

RUNS = ("run", "compare", "estimate", "place", "sweep", "report", "export")  # commands whose arguments are runs or nets of the zoo
Options = dict[str, tuple[str, ...]]  # option -> the values it chooses from; empty: any


@dataclasses.dataclass
class Args:
    """bash: eval "$(spikegate completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc, after compinit;
    fish: spikegate completion fish > ~/.config/fish/completions/spikegate.fish"""

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]
    """Shell to write for."""


def choices(hint: Any) -> tuple[str, ...]:
    """Values of a Literal, of the Literal in a union or list, or none."""
    origin = get_origin(hint)
    if origin is Literal:
        return tuple(str(v) for v in get_args(hint))
    if origin in (Union, types.UnionType, Annotated, list, tuple):
        return tuple(v for part in get_args(hint) for v in choices(part))
    return ()


def options(settings: type, prefix: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """(option, choices) of a dataclass or pydantic model; nested ones with dotted names."""
    from pydantic import BaseModel

    for name, hint in get_type_hints(settings, include_extras=True).items():
        kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if name == "model_config" or "ClassVar" in str(kind):
            continue
        if get_origin(hint) is Annotated and tyro.conf.Positional in hint.__metadata__:
            continue
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from options(kind, f"{prefix}{name}.")
        else:
            yield f"--{prefix}{name}".replace("_", "-"), choices(kind)
            if kind is bool:
                yield f"--{prefix}no-{name}".replace("_", "-"), ()
            for mark in getattr(hint, "__metadata__", ()):
                yield from ((alias, choices(kind)) for alias in getattr(mark, "aliases", None) or ())


def arguments(module: Any) -> list[str]:
    """Values of a command's first argument where it chooses from a list."""
    for hint in get_type_hints(module.Args, include_extras=True).values() if hasattr(module, "Args") else ():
        if get_origin(hint) is Annotated and tyro.conf.Positional in hint.__metadata__:
            return list(choices(hint))
    return []


def table() -> dict[str, tuple[list[str], Options]]:
    """Command -> (words that its arguments choose from, options)."""
    from spikegate.convert.import_model import FORMATS
    from spikegate.installation.bench import benches
    from spikegate.train.settings.config import Config

    found: dict[str, tuple[list[str], Options]] = {}
    for name, (where, _) in COMMANDS.items():
        module = import_module(where)
        words, made = arguments(module), dict(options(module.Args)) if hasattr(module, "Args") else {}
        if name == "train":
            made = {**dict(options(Config)), "--config": (), "-c": ()}
        elif name == "import":
            words = list(FORMATS)
            for path, _ in FORMATS.values():
                made |= dict(options(import_module(path).Args))
        elif name == "bench":
            words = list(benches())
        elif name in RUNS:
            words = [f"zoo:{net}" for net in zoo_names()]
        elif name == "zoo":
            words = zoo_names()
        found[name] = (words, {**made, "--help": ()})
    return found


BASH = r'''# bash completion of spikegate
_spikegate() {
  local line="${COMP_LINE:0:COMP_POINT}" cur prev command words
  local -a parts
  read -ra parts <<< "$line"
  [[ "$line" == *[[:space:]] ]] && parts+=("")
  cur="${parts[-1]}" prev="${parts[-2]}" command="${parts[1]}"
  if (( ${#parts[@]} <= 2 )); then
    words="COMMANDS"
  else
    case "$command $prev" in
CHOICES
      *)
        case "$command" in
WORDS
        esac
        if [[ "$cur" != -* ]]; then
          local IFS=$'\n'
          COMPREPLY+=($(compgen -f -- "$cur"))
          IFS=$' \t\n'
        fi
        ;;
    esac
  fi
  COMPREPLY+=($(compgen -W "$words" -- "$cur"))
  if [[ "$cur" == *:* && "$COMP_WORDBREAKS" == *:* ]]; then
    COMPREPLY=("${COMPREPLY[@]#"${cur%"${cur##*:}"}"}")  # bash takes the part after the colon for the word
  fi
}
complete -o filenames -o default -F _spikegate spikegate
'''

ZSH = r'''#compdef spikegate
# zsh completion of spikegate
_spikegate() {
  local cur="${words[CURRENT]}" prev="${words[CURRENT-1]}" command="${words[2]}"
  local -a found
  if (( CURRENT <= 2 )); then
    compadd -- COMMANDS
    return
  fi
  case "$command $prev" in
CHOICES
    *)
      case "$command" in
WORDS
      esac
      compadd -- $found
      [[ "$cur" == -* ]] || _files
      ;;
  esac
}
compdef _spikegate spikegate
'''


def script(shell: str) -> str:
    """The whole script for bash, zsh or fish."""
    found = table()
    if shell == "fish":
        return _fish(found)
    bash, pad = shell == "bash", " " * (6 if shell == "bash" else 4)
    chosen = [f'{pad}"{name} {option}") ' + (f'words="{" ".join(values)}"' if bash else f"compadd -- {' '.join(values)}") + " ;;"
              for name, (_, made) in found.items() for option, values in made.items() if values]
    deeper = " " * (10 if bash else 8)
    listed = [f"{deeper}{name}) " + (f'words="{" ".join([*words, *made])}"' if bash else f"found=({' '.join([*words, *made])})") + " ;;"
              for name, (words, made) in found.items()]
    text = (BASH if bash else ZSH).replace("COMMANDS", " ".join(found), 1)
    return text.replace("CHOICES", "\n".join(chosen)).replace("WORDS\n", "\n".join(listed) + "\n", 1)


def _fish(found: dict[str, tuple[list[str], Options]]) -> str:
    lines = ["# fish completion of spikegate"]
    for name, (words, made) in found.items():
        lines.append(f"complete -c spikegate -n __fish_use_subcommand -f -a {name} -d {shlex.quote(COMMANDS[name][1])}")
        inside = f"complete -c spikegate -n '__fish_seen_subcommand_from {name}'"
        if words:
            lines.append(f"{inside} -a '{' '.join(words)}'")
        for option, values in made.items():
            flag = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            lines.append(f"{inside} {flag}" + (f" -x -a '{' '.join(values)}'" if values else ""))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the script."""
    args = cli.parse(Args, "Print a completion script.")
    sys.stdout.write(script(args.shell))


if __name__ == "__main__":
    cli.run(main)
