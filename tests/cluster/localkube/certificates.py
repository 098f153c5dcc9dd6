"""Keys, certificates and kubeconfigs of one cluster, made anew at each start by OpenSSL.

One authority signs everything; who a component is, and what it may do, is the subject of its certificate.
"""

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path

from .addresses import Addresses
from .commands import run

DAYS = 365
NODE = "node0"
CA_USAGE = "keyUsage=critical,digitalSignature,keyCertSign,cRLSign"
"""Python 3.13 verifies strictly: an authority must say that it is one (RFC 5280, 4.2.1.3)."""
EC_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")


@dataclass(frozen=True)
class Certificate:
    """A certificate to issue. `subject` in OpenSSL's notation; `names` are its subject alternative names."""

    name: str
    subject: str
    names: list[str] = field(default_factory=list)


def certificates_of(addresses: Addresses) -> list[Certificate]:
    """Everyone who must show who they are."""
    node = f"IP:{addresses.node}"
    service = f"IP:{addresses.services[1]}"
    domain = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    return [
        Certificate("apiserver", "/CN=kube-apiserver", [node, service, *(f"DNS:{name}" for name in domain)]),
        Certificate("kubelet", f"/O=system:nodes/CN=system:node:{NODE}", [node, f"DNS:{NODE}"]),
        Certificate("kube-controller-manager", "/CN=system:kube-controller-manager"),
        Certificate("kube-scheduler", "/CN=system:kube-scheduler"),
        Certificate("kube-proxy", "/CN=system:kube-proxy"),
        Certificate("apiserver-to-kubelet", "/O=system:masters/CN=kube-apiserver-to-kubelet"),
        Certificate("addons", "/O=system:masters/CN=localkube-addons"),
        Certificate("admin", "/O=system:masters/CN=admin"),
    ]


def make_certificates(folder: Path, addresses: Addresses) -> None:
    """Write NAME.crt and NAME.key of the authority `ca` and of everyone, and the pair that signs service accounts."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    request = ["openssl", "req", "-x509", *EC_KEY, "-days", str(DAYS)]
    authority = ["-subj", "/CN=localkube", "-addext", CA_USAGE]
    run([*request, "-keyout", folder / "ca.key", "-out", folder / "ca.crt", *authority])
    for certificate in certificates_of(addresses):
        issue(folder, request, certificate)
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", folder / "service-accounts.key"])
    run(["openssl", "ec", "-in", folder / "service-accounts.key", "-pubout", "-out", folder / "service-accounts.pub"])


def issue(folder: Path, request: list[str], certificate: Certificate) -> None:
    """One certificate, signed by the authority."""
    key, crt = folder / f"{certificate.name}.key", folder / f"{certificate.name}.crt"
    extensions = ["basicConstraints=critical,CA:FALSE", "extendedKeyUsage=serverAuth,clientAuth"]
    if certificate.names:
        extensions.append(f"subjectAltName={','.join(certificate.names)}")
    run(
        [
            *request, "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-subj", certificate.subject,
            "-keyout", key, "-out", crt, *(word for extension in extensions for word in ("-addext", extension)),
        ]
    )  # fmt: skip


def kubeconfig(folder: Path, name: str, addresses: Addresses) -> str:
    """A kubeconfig with everything in it, so that it works from wherever it is copied to. (JSON is YAML, too.)"""

    def content(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    cluster = {"server": addresses.api, "certificate-authority-data": content(folder / "ca.crt")}
    user = {
        "client-certificate-data": content(folder / f"{name}.crt"),
        "client-key-data": content(folder / f"{name}.key"),
    }
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "localkube", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "localkube", "context": {"cluster": "localkube", "user": name}}],
            "current-context": "localkube",
        },
        indent=2,
    )
