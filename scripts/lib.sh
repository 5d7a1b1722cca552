# Sourced by the scripts beside it: where things are, and how to say something.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
target=${CARGO_TARGET_DIR:-$root/target}
venv=$root/.venv
# Where the Python SDK lives; a directory counts once it has a pyproject.toml.
sdks=(sdk/python sdk/vaultak)
typescript=sdk/typescript

# rustup installs here, and a login shell is needed before PATH knows it.
command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

# Where scripts/setup puts Node when the machine's own is missing or too old.
node=$root/.cache/node
[[ ! -x $node/bin/npm ]] || PATH=$node/bin:$PATH

# Nothing here is to reach a server that the environment happens to name.
unset "${!CHECKREIN_@}"

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi

say() { printf '%s\n' "$bold$*$plain"; }
die() {
  printf 'error: %s\n' "$1" >&2
  shift
  [[ $# -eq 0 ]] || printf '  %s\n' "$@" >&2
  exit 1
}

# Prints those of `sdks` that exist.
present_sdks() {
  local sdk
  for sdk in "${sdks[@]}"; do [[ ! -f $sdk/pyproject.toml ]] || printf '%s\n' "$sdk"; done
}

# Prints the names of the environments in which the SDK is tested with agent frameworks.
integration_venvs() {
  local file
  for file in scripts/requirements-integrations-*.txt; do
    file=${file##*/requirements-integrations-}
    printf '%s\n' "${file%.txt}"
  done
}

# Builds the one binary as a developer runs it, and lets the Python parts find it.
build_checkrein() {
  cargo build --locked --bin checkrein
  export CHECKREIN_BIN=$target/debug/checkrein
}
