"""The rollout against two replicas of the stock server: `-m stock`, in the GitHub workflow."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from duoserve import Client
from serving.rollout import Stopped
from tests.rollout import models
from tests.rollout.site import STOCK, Site

pytestmark = pytest.mark.stock


def answering(site: Site) -> set[int]:
    """Which versions answer `stable`, asked at every replica."""
    found = set()
    for replica in site.replicas:
        with Client(replica.address, model=models.MODEL, label="stable") as client:
            found.add(client.predict(*models.SAMPLES[0]).version)
    return found


def test_a_good_version_is_rolled_out_and_back(make_site: Callable[..., Site]) -> None:
    site = make_site(STOCK, STOCK)
    with site.rollout() as rollout:
        rollout.run(models.GOOD)
    assert answering(site) == {models.GOOD}
    with site.rollout() as rollout:
        rollout.rollback()
    site.wait_until_in_sync()
    assert answering(site) == {models.OLD}


def test_a_worse_version_is_stopped_by_the_check(make_site: Callable[..., Site]) -> None:
    site = make_site(STOCK, STOCK)
    with site.rollout() as rollout, pytest.raises(Stopped) as stopped:
        rollout.run(models.WORSE)
    assert stopped.value.step == "check" and stopped.value.undone
    assert answering(site) == {models.OLD}
