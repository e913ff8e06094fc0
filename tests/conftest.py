"""What holds for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.leaks"]

# A machine that is busy makes no test fail: speed is what `bench/` is for. Nor does
# chance, so that what fails was failed by a change; `--hypothesis-profile=random` looks
# further.
for profile, same in (("same", True), ("random", False)):
    settings.register_profile(
        profile,
        derandomize=same,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile("same")
