#!/bin/sh
# Makes .venv with Python 3.10 and everything the project needs; does nothing when it is up to date.
set -eu
cd "$(dirname "$0")"
stamp=.venv/.ready
want=$(cat pyproject.toml constraints.txt | cksum)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && exit 0

is310() { [ "$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = 3.10 ]; }

find310() {
  for p in "${PYTHON:-}" python3.10 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.10.*/bin/python \
      "${UV_PYTHON_INSTALL_DIR:-$HOME/.local/share/uv/python}"/cpython-3.10*/bin/python python3 python; do
    [ -n "$p" ] && is310 "$p" && { echo "$p"; return; }
  done
  if command -v uv >/dev/null; then
    uv python install -q 3.10 && uv python find 3.10 && return
  fi
  {
    echo "bootstrap: no Python 3.10 found (python3 is $(python3 --version 2>&1 || echo missing))"
    echo "  hint: lava-nc 0.10.0 needs Python >=3.10,<3.11; install it (uv python install 3.10, pyenv install 3.10, your"
    echo "        distribution) or set PYTHON=/path/to/python3.10"
  } >&2
  exit 1
}

free_kb=$(df -Pk . | awk 'NR==2 {print $4}')
[ -d .venv ] || [ "$free_kb" -ge 7000000 ] || {
  echo "bootstrap: $((free_kb / 1000)) MB free here, the environment takes about 6100 MB (PyTorch's CUDA libraries)" >&2
  echo "  hint: free some space or clone to another disk" >&2
  exit 1
}

py=$(find310)
is310 .venv/bin/python || { rm -rf .venv; echo "bootstrap: making .venv with $py (two minutes, 6.1 GB)"; "$py" -m venv .venv; }
.venv/bin/python -m pip install -q --disable-pip-version-check uv
.venv/bin/uv pip install -q --compile-bytecode --python .venv/bin/python -e '.[dev]' -c constraints.txt
echo "$want" > "$stamp"
