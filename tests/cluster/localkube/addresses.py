"""Which addresses a cluster has: pure arithmetic.

Everything lies in 198.18.0.0/15, which RFC 2544 sets aside for tests of networks, so nothing real has such an address.
Several clusters may run on one machine, each in a slot: a /20 of its own in the upper quarter of that range, which the
machine reaches through one link and one route. The rest of the range is free for what else the tests make.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

SLOTS = 8
SLOT_PREFIX = 20
CLUSTERS = IPv4Network("198.19.128.0/17")
API_PORT = 6443


@dataclass(frozen=True)
class Addresses:
    """The networks of the cluster in one slot, and the addresses on the link between it and the machine."""

    slot: int
    whole: IPv4Network
    pods: IPv4Network
    services: IPv4Network
    link: IPv4Network

    @property
    def machine(self) -> IPv4Address:
        """The machine's end of the link: what a pod connects to for a server that a test started outside."""
        return self.link[1]

    @property
    def node(self) -> IPv4Address:
        """The node's end of the link: its API, its DNS and its NodePorts, for the machine and for pods."""
        return self.link[2]

    @property
    def api(self) -> str:
        """URL of the Kubernetes API, from everywhere."""
        return f"https://{self.node}:{API_PORT}"

    @property
    def interface(self) -> str:
        """The machine's network interface to this cluster; having it is having the slot."""
        return f"localkube{self.slot}"


def addresses_of(slot: int) -> Addresses:
    """The addresses of a slot from 0 to SLOTS - 1."""
    whole = list(CLUSTERS.subnets(new_prefix=SLOT_PREFIX))[slot]
    quarters = list(whole.subnets(prefixlen_diff=2))
    return Addresses(
        slot=slot,
        whole=whole,
        pods=quarters[0],
        services=quarters[1],
        link=next(quarters[2].subnets(new_prefix=30)),
    )
