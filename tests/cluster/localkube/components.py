"""What runs in the cluster and how it is told so: command lines and configuration files, as pure values.

All paths are those inside the cluster's mount namespace (places.INSIDE). Every setting that differs from the
component's default has its reason beside it.
"""

import json
from pathlib import Path

from .addresses import API_PORT, Addresses
from .certificates import NODE
from .places import INSIDE

BIN = INSIDE / "bin"
ETC = INSIDE / "etc"
PKI = ETC / "pki"
CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")  # its default: the kubelet looks there for statistics
CLUSTER_DOMAIN = "cluster.local"
ETCD = "http://127.0.0.1:2379"  # of the cluster's own network namespace
DNS_READY_PORT = 8181
PAUSE_IMAGE = "localhost/pause:1"
KUBECONFIGS = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "addons")
MAX_PODS = 200


def commands(addresses: Addresses) -> dict[str, list[str]]:
    """Name → command line of every component, in the order in which they start."""
    return {
        "containerd": ["containerd", "--config", f"{ETC}/containerd.toml"],
        "etcd": etcd(),
        "kube-apiserver": apiserver(addresses),
        "kube-controller-manager": controller_manager(addresses),
        "kube-scheduler": scheduler(),
        "kubelet": kubelet(addresses),
        "kube-proxy": proxy(addresses),
        "clusterdns": [f"{BIN}/clusterdns", "-conf", f"{ETC}/Corefile"],
        "volumes": volumes(),
    }


def etcd() -> list[str]:
    peer = "http://127.0.0.1:2380"
    return [
        f"{BIN}/localkube",
        "etcd",
        f"--data-dir={INSIDE}/etcd",
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",  # nothing in a cluster for tests has to survive a power cut
    ]


def apiserver(addresses: Addresses) -> list[str]:
    return [
        f"{BIN}/localkube",
        "kube-apiserver",
        f"--etcd-servers={ETCD}",
        f"--secure-port={API_PORT}",
        f"--advertise-address={addresses.node}",
        f"--service-cluster-ip-range={addresses.services}",
        f"--client-ca-file={PKI}/ca.crt",
        f"--tls-cert-file={PKI}/apiserver.crt",
        f"--tls-private-key-file={PKI}/apiserver.key",
        f"--service-account-issuer=https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
        f"--service-account-key-file={PKI}/service-accounts.pub",
        f"--service-account-signing-key-file={PKI}/service-accounts.key",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--kubelet-certificate-authority={PKI}/ca.crt",
        f"--kubelet-client-certificate={PKI}/apiserver-to-kubelet.crt",
        f"--kubelet-client-key={PKI}/apiserver-to-kubelet.key",
        "--kubelet-preferred-address-types=InternalIP",  # the node's name resolves nowhere
        "--allow-privileged=true",
        "--profiling=false",
    ]


def controller_manager(addresses: Addresses) -> list[str]:
    return [
        f"{BIN}/localkube",
        "kube-controller-manager",
        f"--kubeconfig={ETC}/kube-controller-manager.kubeconfig",
        f"--root-ca-file={PKI}/ca.crt",
        f"--service-account-private-key-file={PKI}/service-accounts.key",
        "--use-service-account-credentials=true",
        f"--cluster-signing-cert-file={PKI}/ca.crt",
        f"--cluster-signing-key-file={PKI}/ca.key",
        "--allocate-node-cidrs=true",
        f"--cluster-cidr={addresses.pods}",
        f"--node-cidr-mask-size={addresses.pods.prefixlen}",
        f"--service-cluster-ip-range={addresses.services}",
        "--leader-elect=false",  # there is one, and a lease would be waited for after each restart
        "--kube-api-qps=200",  # the default of 20 throttles tests that make many objects at once
        "--kube-api-burst=400",
        "--profiling=false",
    ]


def scheduler() -> list[str]:
    kubeconfig = f"{ETC}/kube-scheduler.kubeconfig"
    return [
        f"{BIN}/localkube",
        "kube-scheduler",
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--profiling=false",
    ]


def kubelet(addresses: Addresses) -> list[str]:
    return [
        f"{BIN}/localkube",
        "kubelet",
        f"--config={ETC}/kubelet.json",
        f"--kubeconfig={ETC}/kubelet.kubeconfig",
        f"--hostname-override={NODE}",
        f"--node-ip={addresses.node}",
        f"--root-dir={INSIDE}/kubelet",
    ]


def proxy(addresses: Addresses) -> list[str]:
    return [
        f"{BIN}/localkube",
        "kube-proxy",
        f"--kubeconfig={ETC}/kube-proxy.kubeconfig",
        f"--hostname-override={NODE}",
        f"--cluster-cidr={addresses.pods}",
        "--proxy-mode=nftables",
        # These belong to the whole machine and cannot be set from a network namespace; 0 leaves them alone.
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    ]


def volumes() -> list[str]:
    return [
        f"{BIN}/localkube",
        "volumes",
        f"-kubeconfig={ETC}/addons.kubeconfig",
        f"-directory={INSIDE}/volumes",
        f"-node={NODE}",
    ]


def configuration(addresses: Addresses, cgroup: str) -> dict[Path, str]:
    """Path below the `etc` folder → content of every configuration file."""
    return {
        Path("containerd.toml"): containerd_configuration(),
        Path("kubelet.json"): json.dumps(kubelet_configuration(addresses, cgroup), indent=2),
        Path("cni/10-bridge.conflist"): json.dumps(pod_network(addresses), indent=2),
        Path("Corefile"): corefile(addresses),
    }


def containerd_configuration() -> str:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""\
version = 2
root = "{INSIDE}/containerd"
state = "/run/containerd"

[grpc]
address = "{CONTAINERD_SOCKET}"

[{cri}]
sandbox_image = "{PAUSE_IMAGE}"
# A container on this machine may not lower its score, and the pod's first process asks for that.
restrict_oom_score_adj = true

[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[{cri}.cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{ETC}/cni"
"""


def kubelet_configuration(addresses: Addresses, cgroup: str) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{PKI}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{PKI}/kubelet.crt",
        "tlsPrivateKeyFile": f"{PKI}/kubelet.key",
        "clusterDNS": [str(addresses.node)],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": "",  # pods resolve names of the cluster and nothing else
        "podLogsDir": f"{INSIDE}/pod-logs",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",  # of its own: a kubelet kills what it does not know in its cgroup
        "failCgroupV1": False,  # newer kubelets refuse the old cgroups unless told this; older ones accept it too
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "maxPods": MAX_PODS,
        # The machine's disk and memory are shared with other work: only a really full one evicts pods or images.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        # A changed Secret is in the pods' volumes after seconds instead of a minute, so tests of rotation are short.
        "syncFrequency": "5s",
        "serializeImagePulls": False,
    }


def pod_network(addresses: Addresses) -> dict[str, object]:
    """A bridge; its address is the pods' gateway. It knows no NetworkPolicy."""
    bridge = {
        "type": "bridge",
        "bridge": "pods",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": str(addresses.pods)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports]}


def corefile(addresses: Addresses) -> str:
    """No cache: the answers come from memory anyway, and a test that moves a Service sees it at once."""
    return f"""\
.:53 {{
  bind {addresses.node}
  errors
  ready {addresses.node}:{DNS_READY_PORT}
  kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
    kubeconfig {ETC}/addons.kubeconfig
    pods insecure
    ttl 1
  }}
}}
"""


def manifests() -> list[dict[str, object]]:
    """What is in the cluster from the start: the StorageClass that claims get when they name none."""
    return [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": "standard",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "storekeeper.dev/directory",
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    ]
