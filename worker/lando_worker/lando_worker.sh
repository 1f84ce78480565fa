#!/bin/bash
# Starts the worker: lando_worker.sh GIT CD RUN_CWL PARAMS WORKERCONFIG SERVER
#
# Python is looked for: LANDO_PYTHON; .venv beside this script or the link that it was called by; .venv at
# the root of the checkout; the installation that holds this script; the PATH.
called=${BASH_SOURCE[0]}
[[ $called == */* ]] || called=./$called
package=$(readlink -f -- "$called")
package=${package%/*}

candidates=("${LANDO_PYTHON:-}" "${called%/*}/.venv/bin/python" "$package/../../.venv/bin/python")
[[ $package == */*-packages/lando_worker ]] && candidates+=("$package/../../../../bin/python3")
for python in "${candidates[@]}"; do
    [[ -x $python ]] && exec "$python" -I -X utf8 -m lando_worker "$@"
done

python3 -c 'import lando_worker' 2>/dev/null && exec python3 -X utf8 -m lando_worker "$@"
echo "lando_worker.sh: no Python here has lando: make .venv beside $called, or install lando-fsm" >&2
exit 127
