"""Reads a stack's objects and sums them up: what ``status`` prints and ``up`` waits for."""

from __future__ import annotations

from inferway.api.resources import DEPLOYMENTS, GATEWAYS, NODES
from inferway.cli import summary
from inferway.cli.state import API_PORT, StackRecord, StateFolder
from inferway.cluster.client import KubeClient


async def read_objects(client: KubeClient) -> summary.StackObjects:
    """The objects of the summary. Raises ServerUnreachableError, ApiError."""
    return summary.StackObjects(
        nodes=(await client.list(NODES)).items,
        deployments=(await client.list(DEPLOYMENTS)).items,
        gateways=(await client.list(GATEWAYS)).items,
    )


def summarize(
    objects: summary.StackObjects, folder: StateFolder, record: StackRecord
) -> summary.StackSummary:
    """One value for the terminal and for ``-o json``."""
    return summary.StackSummary(
        ready=summary.is_ready(objects, demo=not record.empty),
        state=str(folder.root),
        kubeconfig=str(folder.kubeconfig),
        server=f"https://{record.network}.0.1:{API_PORT}",
        pid=record.pid,
        isolation=summary.node_annotation(objects.nodes, summary.ISOLATION_ANNOTATION),
        pick_module=summary.node_annotation(objects.nodes, summary.PICK_ANNOTATION),
        engine=record.engine,
        workloads=summary.workloads(objects.deployments),
        gateways=summary.gateways(objects.gateways, objects.nodes),
    )
