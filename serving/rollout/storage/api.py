"""The cluster's API, by the `kubernetes` package: with our errors, and retries during a short outage."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from duoserve.hosts import is_loopback
from serving.rollout.errors import Away, RolloutError, SettingsError
from serving.rollout.patience import patiently

T = TypeVar("T")
_CONFLICT: Final = 409
_PASSING: Final = frozenset({0, 408, 429, 500, 502, 503, 504})  # 0: the TLS handshake was cut
_TIMEOUT: Final = 10
_FIRST_CONTACT: Final = 5.0


class ApiError(RolloutError):
    """The API refused a call, with an HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ClusterApi:
    """Calls the API of a cluster: `core` has config maps and pods, `coordination` leases.

    Args:
        context: The kubeconfig's context; None takes the current one, or in a pod without a kubeconfig its account.
        patience: Seconds for which a call is repeated while the API is away, or while others change the object's
            metadata. An API that never answered yet gets 5: its address may be wrong.

    Raises:
        SettingsError: The package or a configuration is missing, or the configuration is broken.
    """

    def __init__(self, context: str | None, patience: float = 60.0) -> None:
        try:
            import kubernetes
            import urllib3
            import yaml
        except ImportError as error:
            raise SettingsError(f"Expected the package kubernetes, for a cluster. Received: {error}") from error
        self.configuration = kubernetes.client.Configuration()
        path = os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
        broken = (
            kubernetes.config.ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, LookupError,
            AttributeError,
        )  # fmt: skip
        try:
            # Not load_config: it prints to stdout, and passes the context to a loader that takes none.
            if context is None and _in_pod(path):
                kubernetes.config.load_incluster_config(self.configuration)
            else:
                kubernetes.config.load_kube_config(path, context, self.configuration)
        except broken as error:
            told = " ".join(f"{type(error).__name__}: {error}".split())
            raise SettingsError(f"Expected a kubeconfig or a pod's account. Received: {told}") from error
        host = urlsplit(self.configuration.host).hostname or ""
        if self.configuration.proxy in getproxies().values() and is_loopback(host):
            self.configuration.proxy = None  # ignores the environment's proxy; a proxy-url of the kubeconfig stays
        self.configuration.retries = False  # our own retries know the time limit, and what is safe to repeat
        client = kubernetes.client.ApiClient(self.configuration)
        self.core = kubernetes.client.CoreV1Api(client)
        self.coordination = kubernetes.client.CoordinationV1Api(client)
        self._patience = patience
        self._answered = False
        self._api_exception = kubernetes.client.ApiException
        # The last one: the program of a kubeconfig, or the file of the pod's account, gave no new token.
        self._away = (urllib3.exceptions.HTTPError, OSError, kubernetes.config.ConfigException)

    def ask(self, what: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Calls a method of `core` or `coordination` about `what`, which is for messages.

        Raises:
            Away: No answer, an overloaded API, or a change of the object between its read and this write.
            ApiError: The API refused.
        """
        try:
            found = function(*arguments, _request_timeout=_TIMEOUT, **options)
        except self._api_exception as error:
            said = f"{error.status} {' '.join(str(error.reason).split())}"
            if error.status in _PASSING:
                raise Away(f"Expected the cluster's API to answer about {what}. Received: {said}") from error
            self._answered = True
            if error.status == _CONFLICT:
                raise Away(f"Expected to change {what}. Received: {said} (others change it as well)") from error
            raise ApiError(f"Expected access to {what}. Received: {said}", error.status) from error
        except self._away as error:
            raise Away(f"Expected the cluster's API to answer about {what}. Received: {error}") from error
        self._answered = True
        return found

    def patiently(self, attempt: Callable[[], T], seconds: float = float("inf")) -> T:
        """As `patience.patiently`, but not for longer than this API's patience."""
        return patiently(attempt, min(seconds, self._patience, float("inf") if self._answered else _FIRST_CONTACT))

    def pod_addresses(self, namespace: str, selector: str, port: int) -> tuple[str, ...]:
        """The addresses of the running pods that a label selector finds, ready or not; raises as `ask` does."""
        what = f"pods {selector} in {namespace}"
        pods = self.ask(what, self.core.list_namespaced_pod, namespace, label_selector=selector).items
        return tuple(
            joined(pod.status.pod_ip, port)
            for pod in pods
            if pod.status.pod_ip and pod.status.phase == "Running" and pod.metadata.deletion_timestamp is None
        )


def joined(host: str, port: int) -> str:
    """host:port, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _in_pod(kubeconfig: str) -> bool:
    """Whether there is a pod account and no kubeconfig, which would take precedence."""
    named = os.environ.get("KUBECONFIG") or Path(kubeconfig).exists()
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and not named
