"""Runs a cloud until SIGINT or SIGTERM; says on one line of JSON where it is and how to get in."""

from __future__ import annotations

import argparse
import json
import signal
from pathlib import Path

from tests.support.fake_openstack import OpenStackFake


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.fake_openstack", description=__doc__)
    parser.add_argument(
        "--machines", type=Path, help="run servers' user data, with their files in this directory"
    )
    arguments = parser.parse_args()
    endings = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, endings)  # before there are threads that could take them
    with OpenStackFake(machines=arguments.machines) as fake:
        print(json.dumps(_how_to_get_in(fake)), flush=True)
        signal.sigwait(endings)


def _how_to_get_in(fake: OpenStackFake) -> dict[str, str]:
    account = fake.cloud.account
    return {
        **fake.cloud_settings,
        "application_credential_id": account.application_credential_id,
        "application_credential_secret": account.application_credential_secret,
        "control_url": fake.control_url,
    }


if __name__ == "__main__":
    main()
