# Makes a Debian or Ubuntu a worker: installs what is missing of it, and nothing where all is there.
#
# It is a part of the start-up script where worker.bootstrap is true (bootscript.py), and of the worker image's
# recipe (worker/image/build), so that both lead to the same. Given: $worker, the path of lando_worker.sh;
# $source, what pip installs it from; $account, whom workflows run as. Sets $step and $words as bootscript.py.

umask 022
export DEBIAN_FRONTEND=noninteractive
venv=${worker%/*}/.venv

begin() {
    step=$1
    echo "lando: going to $step" >&2
}

# The network of a new VM may take a moment, and so may what else installs there.
patiently() {
    local wait
    for wait in 5 15 45; do
        "$@" && return
        sleep "$wait"
    done
    "$@"
}

packages=()
command -v git >/dev/null || packages+=(git ca-certificates)
python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
command -v node >/dev/null || packages+=(nodejs)
if ! command -v docker >/dev/null && ! command -v podman >/dev/null; then
    packages+=(podman uidmap slirp4netns fuse-overlayfs catatonit)
    step='configure podman'
    mkdir -p /etc/containers/containers.conf.d /etc/containers/registries.conf.d
    # Workflows have no login session, and so no systemd of theirs to ask for cgroups.
    printf '[engine]\ncgroup_manager = "cgroupfs"\n' >/etc/containers/containers.conf.d/lando.conf
    # A DockerRequirement without a registry means Docker's.
    echo 'unqualified-search-registries = ["docker.io"]' >/etc/containers/registries.conf.d/lando.conf
fi
if [ ${#packages[@]} -gt 0 ]; then
    begin "install ${packages[*]} with apt-get"
    apt=(apt-get -qq -o DPkg::Lock::Timeout=300)
    words=$(patiently "${apt[@]}" --error-on=any update 2>&1 | tail -n 5)
    words=$(patiently "${apt[@]}" install --no-install-recommends "${packages[@]}" 2>&1 | tail -n 5)
fi

if ! id "$account" >/dev/null 2>&1; then
    begin "make the account $account"
    words=$(useradd --create-home --shell /bin/bash "$account" 2>&1)
fi

if [ "$(cat "$venv/lando_source" 2>/dev/null)" != "$source" ]; then
    begin "make the virtual environment $venv"
    # Cleared: over the same version from elsewhere, pip would change nothing.
    words=$(python3 -m venv --clear "$venv" 2>&1)
    begin "install the worker from $source with pip"
    words=$(patiently "$venv/bin/pip" install -q "$source" 2>&1 | tail -n 5)
    printf '%s' "$source" >"$venv/lando_source"
fi
begin "link $worker to what is installed"
words=$("$venv/bin/python" -c 'from lando_worker import __file__ as package; print(package)' 2>&1)
words=$(ln -sf "${words%/*}/lando_worker.sh" "$worker" 2>&1)

words=''
umask 077
