# Installs the worker, and what it needs, on Debian or Ubuntu; does nothing where everything is installed.
#
# Part of the start-up script where worker.bootstrap is true (user_data.py), and of the build of the worker image
# (worker/image/build), so that both give the same result. Takes $worker, the path of lando_worker.sh; $source,
# which pip installs; $account, which workflows run as. Sets $step and $output, as user_data.py does.

umask 022
export DEBIAN_FRONTEND=noninteractive
venv=${worker%/*}/.venv

begin() {
    step=$1
    echo "lando: going to $step" >&2
}

# The network of a new VM may not be up yet, and another process may hold the package database.
retry() {
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
# Keeps workflows from the metadata service.
command -v nft >/dev/null || command -v iptables >/dev/null || packages+=(nftables)
if ! command -v docker >/dev/null && ! command -v podman >/dev/null; then
    packages+=(podman uidmap slirp4netns fuse-overlayfs catatonit)
    step='configure podman'
    mkdir -p /etc/containers/containers.conf.d /etc/containers/registries.conf.d
    # Workflows have no login session, hence no systemd of their own that manages cgroups.
    printf '[engine]\ncgroup_manager = "cgroupfs"\n' >/etc/containers/containers.conf.d/lando.conf
    # A DockerRequirement without a registry means Docker Hub.
    echo 'unqualified-search-registries = ["docker.io"]' >/etc/containers/registries.conf.d/lando.conf
fi
if [ ${#packages[@]} -gt 0 ]; then
    begin "install ${packages[*]} with apt-get"
    apt=(apt-get -qq -o DPkg::Lock::Timeout=300)
    output=$(retry "${apt[@]}" --error-on=any update 2>&1 | tail -n 5)
    output=$(retry "${apt[@]}" install --no-install-recommends "${packages[@]}" 2>&1 | tail -n 5)
fi

if ! id "$account" >/dev/null 2>&1; then
    begin "make the account $account"
    output=$(useradd --create-home --shell /bin/bash "$account" 2>&1)
fi

if [ "$(cat "$venv/lando_source" 2>/dev/null)" != "$source" ]; then
    begin "make the virtual environment $venv"
    # Cleared, since pip does not replace the same version from another source.
    output=$(python3 -m venv --clear "$venv" 2>&1)
    begin "install the worker from $source with pip"
    output=$(retry "$venv/bin/pip" install -q "$source" 2>&1 | tail -n 5)
    printf '%s' "$source" >"$venv/lando_source"
fi
begin "link $worker to the installed worker"
output=$("$venv/bin/python" -c 'from lando_worker import __file__ as package; print(package)' 2>&1)
output=$(ln -sf "${output%/*}/lando_worker.sh" "$worker" 2>&1)

output=''
umask 077
