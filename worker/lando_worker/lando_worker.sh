#!/bin/bash
# Starts the worker: lando_worker.sh GIT CD RUN_CWL PARAMS WORKERCONFIG SERVER
#
# It uses the first Python of these: LANDO_PYTHON; .venv beside the path that this script is called by; .venv at
# the root of the checkout; the installation that contains this script; python3 on the PATH.
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
echo "lando_worker.sh: found no Python with lando-fsm: make .venv beside $called, or install lando-fsm" >&2
exit 127
