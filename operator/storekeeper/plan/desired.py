"""The children a store should have, as one value; made by the builders of manifests/."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from store_runtime.config.wire import JobName
from storekeeper.manifests import config, jobs, network, secrets
from storekeeper.manifests.account import service_account
from storekeeper.manifests.blueprint import Blueprint
from storekeeper.manifests.claims import claims
from storekeeper.manifests.objects import Manifest
from storekeeper.manifests.retention import retention_cron_job
from storekeeper.manifests.workload import workload
from storekeeper.plan.deletion import removal_job


@dataclass(frozen=True, slots=True)
class Desired:
    """None: not wanted for this store."""

    account: Manifest
    config: Manifest
    policy: Manifest | None
    claims: tuple[Manifest, ...]
    service: Manifest
    network_policy: Manifest | None
    disruption_budget: Manifest | None
    workload: Manifest
    retention: Manifest | None
    binding: Manifest
    """Secret without its token."""
    jobs_token: Manifest | None
    """Secret without its token, for the pods of the retention CronJob."""
    jobs: Mapping[JobName, Manifest]
    """Jobs of their own that come before the workload; a store on a volume runs them as init containers."""
    removal_job: Manifest

    def before_jobs(self) -> Iterator[Manifest]:
        """What pods mount or are reached by."""
        for manifest in (self.account, self.policy, *self.claims, self.service, self.network_policy):
            if manifest is not None:
                yield manifest

    def after_workload(self) -> Iterator[Manifest]:
        for manifest in (self.disruption_budget, self.retention):
            if manifest is not None:
                yield manifest

    def all(self) -> Iterator[Manifest]:
        """Every child that should be there, Secrets apart."""
        yield self.config
        yield from self.before_jobs()
        yield from self.jobs.values()
        yield self.workload
        yield from self.after_workload()


def desire(blueprint: Blueprint) -> Desired:
    """Everything that this blueprint calls for."""
    return Desired(
        account=service_account(blueprint),
        config=config.config_map(blueprint),
        policy=config.policy_map(blueprint),
        claims=claims(blueprint),
        service=network.service(blueprint),
        network_policy=network.network_policy(blueprint),
        disruption_budget=network.disruption_budget(blueprint),
        workload=workload(blueprint),
        retention=retention_cron_job(blueprint),
        binding=secrets.binding(blueprint),
        jobs_token=secrets.jobs_token(blueprint),
        jobs=jobs.jobs(blueprint),
        removal_job=jobs.job(blueprint, removal_job(blueprint.resource)),
    )
