"""Self-signed certificates for ``OpenStackFake``."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


def self_signed(directory: Path, days: int) -> tuple[Path, Path]:
    """Certificate and key for loopback, PEM files in ``directory``; expired if ``days`` is negative."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    new_key = f"-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {key}"
    names = "-subj /CN=cloud -addext subjectAltName=IP:127.0.0.1,DNS:localhost"
    for command in (
        f"openssl req -x509 {new_key} {names} -out {certificate}",
        f"openssl x509 -in {certificate} -signkey {key} -days {days} -out {certificate}",
    ):
        made = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"openssl cannot make the certificate: {made.stderr}")
    return certificate, key
