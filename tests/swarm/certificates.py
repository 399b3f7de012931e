"""A certificate authority for one test, and a server's certificate that it signed."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """Files in PEM."""

    authority: Path
    """What a client has to trust."""
    key: Path
    chain: Path


def make_certificate(work: Path, name: str = "IP:127.0.0.1") -> Certificate:
    """A certificate for `name` (as in subjectAltName), by an authority made for it; for a day."""
    work.mkdir(parents=True, exist_ok=True)
    made = Certificate(work / "authority.pem", work / "server.key", work / "server.pem")
    authority_key, new = work / "authority.key", ("-newkey", "rsa:2048", "-nodes", "-days", "1")
    subject = ("-subj", "/CN=Test authority")
    _openssl(*new, *subject, "-keyout", str(authority_key), "-out", str(made.authority))
    signer = ("-CA", str(made.authority), "-CAkey", str(authority_key))
    names = ("-addext", f"subjectAltName={name}", "-addext", "basicConstraints=CA:FALSE")
    subject = ("-subj", "/CN=Test server")
    _openssl(*new, *subject, *signer, *names, "-keyout", str(made.key), "-out", str(made.chain))
    return made


def _openssl(*arguments: str) -> None:
    command = ["openssl", "req", "-x509", *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
