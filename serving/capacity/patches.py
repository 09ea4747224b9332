"""A plan as files: batching.config, and a kustomize component that patches the deployment and its autoscaler."""

from pathlib import Path
from typing import Any

from serving.capacity.plan import Batching, CapacityPlan, batching_lines

_DEPLOYMENT = Path(__file__).parents[2] / "k8s/base/server/deployment.yaml"
_CONTAINER = "/spec/template/spec/containers/0"


def batching_config(batching: Batching) -> str:
    """The text of a batching.config."""
    lines = ["# Made by `python -m serving.capacity`.", *batching_lines(batching), "pad_variable_length_inputs: false"]
    return "\n".join([*lines, ""])


def write_patches(made: CapacityPlan, cpus: int, folder: Path) -> list[Path]:
    """Writes a kustomize component for a plan of replicas with some CPUs; returns its files.

    Raises:
        OSError: They can't be written.
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        """Texts of several lines in block style."""

    Dumper.add_representer(
        str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" * ("\n" in text))
    )
    content: dict[str, Any] = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component"}
    texts = {}
    if made.batching:
        texts["batching.config"] = batching_config(made.batching)
        content["configMapGenerator"] = [{"name": "duoserve-server", "behavior": "merge", "files": ["batching.config"]}]
    server = {"kind": "Deployment", "labelSelector": "app.kubernetes.io/component=server"}
    sizes = {"minReplicas": made.minimum, "maxReplicas": made.maximum}
    autoscaler = [{"op": "replace", "path": f"/spec/{name}", "value": value} for name, value in sizes.items()]
    changes = [(server, _deployment(made, cpus)), ({"kind": "HorizontalPodAutoscaler"}, autoscaler)]
    content["patches"] = [
        {"target": target, "patch": yaml.safe_dump(operations, sort_keys=False)} for target, operations in changes
    ]
    where = "in place of the component batching" if made.batching else "without the component batching"
    head = f"# For {made.rate:g} calls a second. Add this folder to an overlay's components, {where},\n"
    head += "# and remove the overlay's own patches of replicas, CPU and memory, which would win.\n"
    texts["kustomization.yaml"] = head + yaml.dump(content, Dumper=Dumper, sort_keys=False)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def _deployment(made: CapacityPlan, cpus: int) -> list[dict[str, Any]]:
    import yaml

    args: list[str] = yaml.safe_load(_DEPLOYMENT.read_text())["spec"]["template"]["spec"]["containers"][0]["args"]
    amounts = {"cpu": str(cpus)} | ({} if made.memory_mb is None else {"memory": f"{made.memory_mb}Mi"})
    operations: list[dict[str, Any]] = [
        {"op": "replace", "path": f"{_CONTAINER}/resources/{kind}/{name}", "value": amount}
        for kind in ("requests", "limits")
        for name, amount in amounts.items()
    ]
    for name, value in made.flags.items():
        place = next(at for at, arg in enumerate(args) if arg.startswith(f"--{name}="))
        # The base takes the operations at once from the CPU limit.
        if args[place] not in (f"--{name}={value}", f"--{name}=$(CPU_LIMIT)" if value == cpus else ""):
            path = f"{_CONTAINER}/args/{place}"
            operations.append({"op": "test", "path": path, "value": args[place]})
            operations.append({"op": "replace", "path": path, "value": f"--{name}={value}"})
    if made.batching:
        flags = ("--enable_batching=true", "--batching_parameters_file=/etc/duoserve/server/batching.config")
        operations += [{"op": "add", "path": f"{_CONTAINER}/args/-", "value": flag} for flag in flags]
    return operations
