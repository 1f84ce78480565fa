"""Runs a fake OpenStack until SIGINT or SIGTERM; prints its URLs and credentials as one line of JSON."""

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
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before any thread starts, so that none receives them
    with OpenStackFake(machines=arguments.machines) as fake:
        print(json.dumps(_access(fake)), flush=True)
        signal.sigwait(signals)


def _access(fake: OpenStackFake) -> dict[str, str]:
    account = fake.cloud.account
    return {
        **fake.cloud_settings,
        "application_credential_id": account.application_credential_id,
        "application_credential_secret": account.application_credential_secret,
        "control_url": fake.control_url,
    }


if __name__ == "__main__":
    main()
