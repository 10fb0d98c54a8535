#!/bin/sh
# Makes .venv with Python 3.12 and everything the project needs; does nothing when it is up to date.
#   PYTHON=/path/to/python3.13 ./bootstrap.sh     another Python (3.11 to 3.13)
#   EXTRAS=lava ./bootstrap.sh                    less than everything: names of extras in pyproject.toml, or "none"
#   VENV=.venv-3.13 ./bootstrap.sh                another folder than .venv
#   UV_TORCH_BACKEND=cpu ./bootstrap.sh           PyTorch's CPU wheels, from PyTorch's own index
set -eu
cd "$(dirname "$0")"
extras=${EXTRAS-dev}
venv=${VENV:-.venv}
stamp=$venv/.ready
want=$(cat pyproject.toml constraints.txt bootstrap.sh | cksum)-$extras-${UV_TORCH_BACKEND-}-${PYTHON-}
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && exit 0

version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
fits() { case "$(version "$1")" in 3.11 | 3.12 | 3.13) ;; *) return 1 ;; esac; }

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    fits "$PYTHON" && { echo "$PYTHON"; return; }
    echo "bootstrap: PYTHON=$PYTHON is Python $(version "$PYTHON" || echo none); 3.11, 3.12 or 3.13 is needed" >&2
    exit 1
  fi
  for p in python3.12 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12.*/bin/python \
      "${UV_PYTHON_INSTALL_DIR:-$HOME/.local/share/uv/python}"/cpython-3.12*/bin/python python3 python python3.13 python3.11; do
    fits "$p" && { echo "$p"; return; }
  done
  if command -v uv >/dev/null; then
    uv python install -q 3.12 && uv python find 3.12 && return
  fi
  {
    echo "bootstrap: no Python 3.11, 3.12 or 3.13 found (python3 is $(python3 --version 2>&1 || echo missing))"
    echo "  hint: install 3.12 (uv python install 3.12, pyenv install 3.12, your distribution) or set PYTHON=/path/to/python3.12"
  } >&2
  exit 1
}

need=7000 # MB with PyTorch's CUDA libraries
case "$extras" in none | lava | nir) need=1500 ;; esac
free_mb=$(df -Pk . | awk 'NR==2 {print int($4 / 1000)}')
[ -d "$venv" ] || [ "$free_mb" -ge "$need" ] || {
  echo "bootstrap: $free_mb MB free here, the environment takes up to $need MB" >&2
  echo "  hint: free some space, clone to another disk, or take less: EXTRAS=lava ./bootstrap.sh (no training, no PyTorch)" >&2
  exit 1
}

py=$(find_python)
[ "$(version "$venv/bin/python" || true)" = "$(version "$py")" ] || {
  rm -rf "$venv"
  echo "bootstrap: making $venv with $py (one to two minutes, up to $need MB)"
  "$py" -m venv "$venv"
}
"$venv/bin/python" -m pip install -q --disable-pip-version-check uv
[ "$extras" = none ] && target=. || target=".[$extras]"
"$venv/bin/uv" pip install -q --compile-bytecode --python "$venv/bin/python" -e "$target" -c constraints.txt
case "$extras" in none | nir) ;; *) "$venv/bin/python" -m spikegate install-lava --quiet ;; esac
"$venv/bin/python" -m spikegate compile --quiet
echo "$want" > "$stamp"
